"""A row that cannot be read is refused like any other: with its reason, once, and the rows beside it come in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from evertune.config import Recipe
from evertune.data.contract.judge import UNREADABLE, BatchStoppedError
from evertune.data.corpus import staging
from evertune.data.quarantine import release as quarantine
from evertune.data.quarantine.release import read_mended
from evertune.errors import DataError
from evertune.profiling import preview
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from tests.helpers.contract import GOOD
from tests.helpers.contract import check_as_batch as judged
from tests.helpers.data import TOKENS, current, good, ingest, keyed_rows, run
from tests.helpers.data import make_home as home
from tests.helpers.data import make_recipe as recipe

CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in good(100))
LINES = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in good(100))
SENTENCES = "".join(f"Rome{number} B-LOC\nsleeps O\n\n" for number in range(100))
MORE = {"csv": "one more,card\n", "json": '{"text": "one more", "label": "card"}\n', "conll": "Oslo B-LOC\n\n"}

BROKEN = {
    "torn": ("json", LINES, b'{"text": "torn', "line 101: not JSON"),
    "list": ("json", LINES, b'{"text": ["a"], "label": "card"}', "row 100, column text: holds a list where a text"),
    "byte": ("json", LINES, b'{"text": "caf\xe9", "label": "card"}', "line 101: not valid utf-8; set `encoding: lat"),
    "many": ("csv", CSV, b"hello, you,card", "line 102: 3 cells, but the header has 2"),
    "few": ("csv", CSV, b"hello", "line 102: 1 cell, but the header has 2"),
    "open": ("csv", CSV, b'"hello,card', "line 102: a quote that opens here is never closed"),
    "quotes": ("csv", CSV, b'"say "hi" now",card', "line 102: text goes on after a closing quote"),
    "csv byte": ("csv", CSV, b"caf\xe9,card", "line 102: not valid utf-8"),
    "column": ("conll", SENTENCES, b"Rome X B-LOC\nsleeps O\n", "line 301: 3 columns where 2 are expected"),
}


def made(folder: Path, ending: str, content: bytes) -> tuple[Recipe, Home]:
    (folder / f"rows.{ending}").write_bytes(content)
    kind = {"objective": TOKENS} if ending == "conll" else {}
    return recipe(folder, data={"sources": [{"path": f"rows.{ending}"}]}, **kind), home(folder)


@pytest.mark.parametrize("name", BROKEN)
def test_it_is_refused_once_and_the_others_come_in(tmp_path: Path, name: str) -> None:
    ending, rows, line, reason = BROKEN[name]
    one, place = made(tmp_path, ending, rows.encode() + line + b"\n" + MORE[ending].encode())
    snapshot = run(one, place)
    assert (snapshot.accepted, snapshot.refused, snapshot.reasons) == (101, 1, {UNREADABLE: 1})
    (row,) = quarantine.list_refused(place).to_pylist()
    assert row["kinds"] == [UNREADABLE]
    assert row["reasons"][0].startswith(reason)
    made(tmp_path, ending, b"\n" + rows.encode() + line + b"\n" if ending == "json" else rows.encode() + line + b"\n")
    assert ingest(one, place).rows == 0  # the same line, in another place or in a file that has changed


def test_a_mended_line_is_fresh_and_so_is_one_that_is_broken_in_another_way(tmp_path: Path) -> None:
    one, place = made(tmp_path, "csv", CSV.encode() + b"hello, you,card\n")
    run(one, place)
    made(tmp_path, "csv", CSV.encode() + b'"hello, you",card\n')
    assert run(one, place).accepted == 1
    others = "".join(f"{text},{label}\n" for text, label in good(30, start=100))
    made(tmp_path, "csv", CSV.encode() + b"ciao, you,card\n" + others.encode())
    assert run(one, place).refused == 1
    assert len(quarantine.list_refused(place)) == 2


def test_a_wrong_encoding_stops_the_batch_and_says_what_to_do(tmp_path: Path) -> None:
    one, place = made(tmp_path, "csv", CSV.replace("alpha", "caf\u00e9").encode("latin-1"))
    with pytest.raises(BatchStoppedError) as stop:
        run(one, place)
    assert "refused 100 of 100 rows" in str(stop.value)
    assert "rows.csv, row 0: line 2: not valid utf-8; set `encoding: latin-1` (or what it is)" in str(stop.value)


def test_what_could_be_read_of_it_is_kept_for_the_one_who_mends(tmp_path: Path) -> None:
    text = "id,text,label\n" + "".join(f"n{at},{row[0]},{row[1]}\n" for at, row in enumerate(good(100)))
    (tmp_path / "rows.csv").write_bytes(text.encode() + b"x,caf\xe9 ole,card\n")
    one = recipe(tmp_path, data={"sources": [{"path": "rows.csv"}], "columns": {"id": "id"}})
    place = home(tmp_path)
    run(one, place)
    (row,) = quarantine.list_refused(place).to_pylist()
    assert (row["id"], row["text"], row["label"]) == ("x", "caf\ufffd ole", "card")
    (tmp_path / "rows.csv").write_text(text + "x,caf\u00e9 ole,card\n", encoding="utf-8")
    assert run(one, place).accepted == 1
    assert len(quarantine.list_refused(place)) == 0  # the source mended it


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_it_is_released_once_a_person_has_mended_it(tmp_path: Path, ending: str) -> None:
    one, place = made(tmp_path, "json", LINES.encode() + b'{"text": "caf\xe9 ole", "label": "card"}\n{"text": "torn\n')
    run(one, place)
    assert quarantine.release_rows(one, place).reasons == {UNREADABLE: 2}
    path = tmp_path / f"refused.{ending}"
    quarantine.export_refused(place, path)
    assert quarantine.release_rows(one, place, read_mended(path, one)).released == 0
    path.write_text(path.read_text(encoding="utf-8").replace("caf\ufffd", "caf\u00e9"), encoding="utf-8")
    done = quarantine.release_rows(one, place, read_mended(path, one))
    assert (done.released, done.kept, done.reasons) == (1, 1, {UNREADABLE: 1})
    assert [row["label"] for row in current(place) if row["text"] == "caf\u00e9 ole"] == ["card"]
    made(tmp_path, "json", LINES.encode() + b'\n{"text": "caf\xe9 ole", "label": "card"}\n{"text": "torn\n')
    assert ingest(one, place).rows == 0


def test_no_other_check_looks_at_it_and_the_tables_keep_their_columns(tmp_path: Path) -> None:
    one = recipe(
        tmp_path,
        contract={"expectations": [{"type": "expect_column_values_to_not_be_null", "column": "text"}]},
    )
    rows = keyed_rows(one, [*GOOD, {"text": None, "label": "slip", "problem": "line 9: torn"}])
    found = judged(rows, one, (), tmp_path / "docs")
    assert found.reasons == {UNREADABLE: 1}
    assert found.refused["reasons"].to_pylist() == [["line 9: torn"]]
    result = read_json(tmp_path / "docs" / "result.json")
    assert result is not None
    assert (result["success"], result["expectations"] - result["passed"]) == (False, 1)
    one, place = made(tmp_path, "csv", CSV.encode() + b"a,b,c\n")
    run(one, place)
    for table in (place.corpus, place.quarantine):
        names = [field.name for field in DeltaTable(str(table)).schema().fields]
        assert not {"problem", "problem_digest"} & set(names)


def test_a_batch_of_nothing_else_is_stopped(tmp_path: Path) -> None:
    one, place = made(tmp_path, "csv", b"text,label\na,b,c\n")
    with pytest.raises(BatchStoppedError, match="1  unreadable row"):
        run(one, place)


def test_cells_of_a_parquet_file_count_too(tmp_path: Path) -> None:
    rows = [{"tokens": [f"Rome{at}", "is"], "tags": ["B-LOC", "O"]} for at in range(100)]
    rows.append({"tokens": ["Oslo", None], "tags": ["B-LOC", "O"]})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    one = recipe(tmp_path, objective=TOKENS, data={"sources": [{"path": "rows.parquet"}]})
    assert run(one, home(tmp_path)).reasons == {UNREADABLE: 1}


def test_check_counts_it(tmp_path: Path, write_recipe: Callable[..., Path], tiny_model: Path) -> None:
    one, _ = made(tmp_path, "csv", CSV.encode() + b"a,b,c\n")
    found = preview.preview_recipe(one.model_copy(update={"base_model": str(tiny_model)}), 2000)
    assert (found.accepted, found.reasons) == (100, {UNREADABLE: 1})
    assert found.notes[0].startswith("cannot be read: rows.csv, line 102: 3 cells")
    one, _ = made(tmp_path, "csv", b"text,label\ncaf\xe9,card\n")
    with pytest.raises(DataError, match=r"no row can be read; rows.csv, line 2: not valid utf-8"):
        preview.preview_recipe(one, 2000)


def test_a_batch_that_an_older_evertune_staged_is_read_again(tmp_path: Path, monkeypatch: Any) -> None:
    one, place = made(tmp_path, "csv", CSV.encode())
    batch = ingest(one, place)
    rows = pq.read_table(str(batch.path)).drop_columns(["problem", "problem_digest"])
    _, notes = staging.find_staged_batch(place) or (None, {})
    staging.write_table(Path(str(batch.path)), rows, {**notes, "shape": "as it was before"})
    assert run(one, place).accepted == 100
