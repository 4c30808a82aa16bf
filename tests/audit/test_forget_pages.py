"""A forgotten text is taken out of what shows it, in whatever form it is shown there."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evertune.audit.forgetting import pages, tables
from evertune.data.text_matching import TextMatcher
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

SECRET = "ada lovelace wrote of her engine and its punched cards"
OTHER = "grace hopper found a moth between the relays of her machine"
TORN = SECRET.replace(" and", "\u2028and").replace(" of", "\x85of")  # signs at which `splitlines` cuts a line
PAGES = [
    ("page.html", f"<p>{SECRET}</p><p>others</p>", "<p>[forgotten]</p><p>others</p>"),
    ("cut.html", f"<p>{SECRET[:-6]}</p>", "<p>[forgotten]</p>"),
    ("marked.html", "<p>" + SECRET.replace("engine", "<mark>engine</mark>") + "</p>", pages.INSTEAD),
    ("title.html", f'<a title="{SECRET}">row 3</a>', pages.INSTEAD),
    ("other.html", f"<p>{OTHER}</p>", f"<p>{OTHER}</p>"),
    ("example.json", json.dumps({"data": [[SECRET], [OTHER]]}), [["[forgotten]"], [OTHER]]),
    ("words.json", json.dumps({"data": [SECRET.split(), OTHER.split()]}), [["[forgotten]"], OTHER.split()]),
    ("scored.csv", f'text,label\r\n"{SECRET}",card\r\n{OTHER},refund\r\n', f"text,label\r\n{OTHER},refund\r\n"),
    ("scored.tsv", f"text\tlabel\r\n{SECRET}\tcard\r\n{OTHER}\trefund\r\n", f"text\tlabel\r\n{OTHER}\trefund\r\n"),
    ("scored.jsonl", json.dumps({"text": SECRET}) + '\n{"text": "x"}\n', '{"text": "x"}\n'),
    ("torn.jsonl", f'{{"text": "{TORN}"}}\n{{"text": "x"}}\n', '{"text": "x"}\n'),
    ("torn.log", f"one\nrefused: {TORN}\n", "one\n[forgotten]\n"),
    ("worker.log", f"one\nrefused: {SECRET!r}\n", "one\n[forgotten]\n"),
]


@pytest.mark.parametrize(("name", "before", "after"), PAGES, ids=[name for name, *_ in PAGES])
def test_a_text_is_taken_out_of_what_shows_it(tmp_path: Path, name: str, before: str, after: Any) -> None:
    place = Home(tmp_path, "m")
    path = place.runs / "r1" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(before.encode())
    pages.clean_pages(place, TextMatcher([SECRET]))
    found = path.read_bytes().decode()
    assert (json.loads(found)["data"] if name.endswith(".json") else found) == after


def test_an_answer_that_tells_a_forgotten_text_goes_with_its_question(tmp_path: Path) -> None:
    place = Home(tmp_path, "m")
    path = place.runs / "r1" / pages.SAMPLE
    said = [{"answer": f"it was {SECRET}", "score": 0.5}, {"answer": OTHER, "score": 0.5}]
    write_json(path, {"role": "prompt", "inputs": ["who was it", "and then"], "predictions": said})
    pages.clean_pages(place, TextMatcher([SECRET]))
    assert read_json(path) == {"role": "prompt", "inputs": ["and then"], "predictions": said[1:]}


LONG = f"{SECRET} and of the numbers that it would weave as a loom weaves leaves"
PIECES = [
    ("how it went on", LONG[17:], True),
    ("cut at both ends", SECRET[5:40], True),
    ("a piece among others", f"he said that {LONG[3:70]}, or so", True),
    ("too little", SECRET[20:40], False),
    ("a common turn among others", f"he {SECRET[3:40]} or so", False),
]


@pytest.mark.parametrize(("content", "found"), [one[1:] for one in PIECES], ids=[one[0] for one in PIECES])
def test_pieces_of_a_language_models_text_are_found(content: str, found: bool) -> None:
    assert TextMatcher([OTHER, LONG], pieces=True).matches_value(content) is found
    assert not TextMatcher([OTHER, LONG]).matches_value(content)


@pytest.mark.parametrize("above", [".", "checkpoints/bundle"])
def test_a_parquet_file_in_the_home_loses_the_rows_and_nothing_else(tmp_path: Path, above: str) -> None:
    place = Home(tmp_path / above, "m")
    texts = TextMatcher([SECRET])
    scores = pa.table(
        {"text": [OTHER, SECRET, None], "tokens": [["a"], ["b"], SECRET.split()], "score": [1.0, 2.0, 3.0]}
    )
    place.model.mkdir(parents=True)
    pq.write_table(scores, place.model / "scores.parquet")
    (place.model / "broken.parquet").write_text("no table")
    assert tables.clean_tables(place, texts) == 1
    assert pq.read_table(place.model / "scores.parquet").equals(scores.slice(0, 1))
    assert sorted(path.name for path in place.model.iterdir()) == ["broken.parquet", "scores.parquet"]
    assert tables.clean_tables(place, texts) == 0
