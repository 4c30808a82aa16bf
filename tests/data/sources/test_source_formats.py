"""Every file format, and every way in which a file can be broken."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.config import Recipe, load_recipe
from evertune.data.sources import read as sources
from evertune.data.sources.formats.cells import parse_moment, parse_span, parse_words
from evertune.errors import ConfigError, DataError


def read_only_piece(recipe: Recipe) -> list[dict[str, Any]]:
    """Return the rows of a recipe's only piece."""
    (piece,) = sources.read_sources(recipe, {})
    return list(piece.table.to_pylist())


def read_error(recipe: Recipe) -> str:
    """Return the message of the DataError that reading raises."""
    with pytest.raises(DataError) as error:
        list(sources.read_sources(recipe, {}))
    return str(error.value)


def read_problems(recipe: Recipe) -> list[str | None]:
    return [row["problem"] for row in read_only_piece(recipe)]


BROKEN = {
    "empty.csv": (b"", "empty.csv: the file is empty"),
    "blank.csv": (b"\n\n", "the file has no header"),
    "quotes.csv": (b'"say "hi" now",label\n', "quotes.csv: the header cannot be read: text goes on after a closing"),
    "twice.csv": (b"text,label,text\na,b,c\n", "text: twice.csv has 2 columns named text"),
    "latin.csv": ("caf\xe9,label\nhello,x\n".encode("latin-1"), "latin.csv: the file is not valid utf-8; set `enc"),
    "first.jsonl": (b'{"text" "a"}\n', "first.jsonl: line 1: not JSON"),
    "array.jsonl": (
        b'[{"text": "a", "label": "b"}]\n',
        "line 1: expected a JSON object, found list; write one",
    ),
    "pretty.jsonl": (b'[\n {\n  "text": "a",\n  "label": "b"\n }\n]\n', "this looks like one JSON array"),
    "wide.jsonl": ('{"text": "a"}'.encode("utf-16"), "line 1: not valid utf-8; set `encoding: latin-1` (or the rig"),
    "text.parquet": (b"PAR1 or not", "text.parquet: cannot be read as Parquet"),
    "empty.jsonl": (b"", "empty.jsonl: the file is empty"),
    "objects.jsonl": (b"\n\n", "the file has no JSON objects"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_name_the_place_and_what_to_do(
    tmp_path: Path, source_recipe: Callable[..., Recipe], name: str
) -> None:
    content, expected = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    assert expected in read_error(source_recipe({"path": name}))


def test_an_encoding_can_be_given(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,x\n".encode("latin-1"))
    assert "`encoding: latin-1`" in str(read_problems(source_recipe({"path": "latin.csv"})))
    assert read_only_piece(source_recipe({"path": "latin.csv", "encoding": "latin-1"}))[0]["text"] == "café"
    assert "is not valid utf-16" in read_error(source_recipe({"path": "latin.csv", "encoding": "utf-16"}))
    with pytest.raises(ConfigError, match="encoding: 'latin-i' is unknown"):
        list(sources.read_sources(source_recipe({"path": "latin.csv", "encoding": "latin-i"}), {}))


def test_a_wrong_byte_is_found_far_into_a_file(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    lines = "text,label\n" + "naïve,x\n" * 20_000
    (tmp_path / "long.csv").write_bytes(lines.encode() + b"\xff,x\nfine,x\n")
    *_, before, wrong, after = read_problems(source_recipe({"path": "long.csv"}))
    assert before is None and after is None
    assert wrong is not None and wrong.startswith("line 20002: not valid utf-8")


def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    lines = ['"one,x', "two,x", '"three, or\nso",y', '"four,x', '"five",x', "", "six,y"]
    (tmp_path / "open.csv").write_text("text,label\n" + "\n".join(lines))
    rows = read_only_piece(source_recipe({"path": "open.csv"}))
    assert [row["text"] for row in rows] == [None, "two", "three, or\nso", None, "five", "six"]
    assert [row["problem"][:7] for row in rows if row["problem"]] == ["line 2:", "line 6:"]


def test_a_byte_order_mark_and_spaces_in_the_header_are_no_part_of_names(
    tmp_path: Path, source_recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "excel.csv").write_bytes("text, label\r\nhi,x\r\n".encode("utf-8-sig"))
    assert read_only_piece(source_recipe({"path": "excel.csv"}))[0]["label"] == "x"


TSV = {
    "stray quotes": (['"begins\tx', "fine\ty", 'ends"\tx'], [('"begins', "x"), ("fine", "y"), ('ends"', "x")]),
    "text after a quote": (['"Hello" I said\tx'], [('"Hello" I said', "x")]),
    "quoted": (['"a ""b"" c"\tx', '"one\ttab"\ty'], [('a "b" c', "x"), ("one\ttab", "y")]),
    "lines in the first cell": (['"one', "", 'two"\tx', "fine\ty"], [("one\n\ntwo", "x"), ("fine", "y")]),
    "lines in the last cell": (['word\t"one', 'two"', "fine\ty"], [("word", "one\ntwo"), ("fine", "y")]),
    "open in the last cell": (['word\t"one', "fine\ty", 'end\t"'], [("word", '"one'), ("fine", "y"), ("end", '"')]),
    "short": (['"open', "fine\ty", "more"], [(None, None), ("fine", "y"), (None, None)]),
}


@pytest.mark.parametrize("name", TSV)
def test_quotes_in_tsv(tmp_path: Path, source_recipe: Callable[..., Recipe], name: str) -> None:
    lines, expected = TSV[name]
    (tmp_path / "a.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    assert [(row["text"], row["label"]) for row in read_only_piece(source_recipe({"path": "a.tsv"}))] == expected


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(st.tuples(st.text(max_size=20), st.sampled_from(["x", "y"])), min_size=1))
def test_what_pandas_writes_as_tsv_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", lineterminator="\n").writerows([("text", "label"), *rows])
    rows_read = read_back(tmp_path_factory, "a.tsv", stream.getvalue())
    plain = [(text, label) for text, label in rows if text and not {"\t", "\r", "\n"} & set(text)]
    assert [row for row in rows_read if row in plain] == plain


@pytest.mark.parametrize("sign", [";", "\t", "|", ":"])
def test_another_delimiter(tmp_path: Path, source_recipe: Callable[..., Recipe], sign: str) -> None:
    (tmp_path / "a.csv").write_text(f'text{sign}label\n"well, {sign} yes"{sign}x\n')
    recipe = source_recipe({"path": "a.csv", **({"delimiter": sign} if sign == ":" else {})})
    assert [(row["text"], row["label"]) for row in read_only_piece(recipe)] == [(f"well, {sign} yes", "x")]
    with pytest.raises(ConfigError, match=r"delimiter: must be one character, such as ';', or auto, not 'semicolon'"):
        source_recipe({"path": "a.csv", "delimiter": "semicolon"})


def test_numbers_nulls_and_class_names_become_text(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    lines = [
        '{"text": "a", "label": 0, "id": 7}',
        '{"text": "b", "label": true}',
        '{"text": "", "label": null, "id": "x"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rows = read_only_piece(source_recipe({"path": "a.jsonl"}, id="id"))
    assert [(row["text"], row["label"], row["id"]) for row in rows] == [
        ("a", "0", "7"),
        ("b", "true", None),
        ("", None, "x"),
    ]
    features = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["a", "b"], "label": [1, -1], "when": pa.array([0, 1], pa.timestamp("ns"))})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read_only_piece(source_recipe({"path": "a.parquet"}, timestamp="when"))
    assert [row["label"] for row in rows] == ["pos", None]
    assert rows[0]["timestamp"] == datetime(1970, 1, 1, tzinfo=UTC)


def test_conll_sentences(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    text = "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nPeter NNP B-PER\n"
    (tmp_path / "a.txt").write_text(text)
    rows = read_only_piece(source_recipe({"path": "a.txt"}, objective="token-classification"))
    assert [(row["tokens"], row["tags"]) for row in rows] == [
        (["EU", "rejects"], ["B-ORG", "O"]),
        (["Peter"], ["B-PER"]),
    ]
    rows = read_only_piece(
        source_recipe(
            {"path": "a.txt", "fields": ["word", "tags", "ner"]}, objective="token-classification", tokens="word"
        )
    )
    assert rows[1]["tags"] == ["NNP"]
    (tmp_path / "b.txt").write_text(text + "runs\n")
    row_problems = read_problems(source_recipe({"path": "b.txt"}, objective="token-classification"))
    assert "line 8: expected 3 columns, found 1" in str(row_problems)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("# newdoc\nBob B-PER\nruns O\n", [["Bob", "runs"]]),
        ("# newdoc\n\n# sent_id = 1\n# text = Bob runs\nBob B-PER\nruns O\n", [["Bob", "runs"]]),
        ("# id a-x\tdomain=en\nBob _ _ B-PER\nruns _ _ O\n", [["Bob", "runs"]]),
        ("#begin document (a); part 000\nBob B-PER\n\n#end document\n", [["Bob"]]),
        ("# O\n5 O\n\nBob B-PER\n# O\n5 O\n", [["#", "5"], ["Bob", "#", "5"]]),
        ("# NN\nBob NN\n", [["#", "Bob"]]),
        ("#\tO\nBob\tB-PER\n", [["#", "Bob"]]),
        ("#cats O\nBob B-PER\n", [["#cats", "Bob"]]),
    ],
)
def test_conll_comments_are_no_words(
    tmp_path: Path, source_recipe: Callable[..., Recipe], text: str, sentences: list[list[str]]
) -> None:
    (tmp_path / "a.conll").write_text(text)
    rows = read_only_piece(source_recipe({"path": "a.conll"}, objective="token-classification"))
    assert [row["problem"] for row in rows] == [None] * len(sentences)
    assert [row["tokens"] for row in rows] == sentences


def test_spans_of_a_cell() -> None:
    assert parse_span({"answer_start": [17, 3], "text": ["a", "b"]}) == '{"start": 17, "text": "a"}'
    assert parse_span('{"start":3,"text":["a"]}') == '{"start": 3, "text": "a"}'
    for cell in (
        {"start": True, "text": "a"},
        {"start": [3], "text": "a"},
        {"start": "3", "text": ["a"]},
        {"text": []},
    ):
        with pytest.raises(ValueError, match="`text` must be a text and `start` an integer"):
            parse_span(cell)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(st.fixed_dictionaries({"text": JSON_VALUES}, optional={"start": JSON_VALUES, "answer_start": JSON_VALUES}))
def test_any_object_is_a_span_or_a_value_error(cell: dict[str, object]) -> None:
    try:
        span = json.loads(str(parse_span(cell)))
    except ValueError:
        return
    assert isinstance(span["text"], str)
    assert span["start"] is None or type(span["start"]) is int


def test_lists_of_words_from_every_format(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    pq.write_table(pa.table({"tokens": [["a", "b"]], "tags": [[0, 1]]}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text('{"tokens": ["a", "b"], "tags": [0, 1]}')
    (tmp_path / "a.csv").write_text('tokens,tags\na b,"[""0"", ""1""]"\n')
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        row = read_only_piece(source_recipe({"path": name}, objective="token-classification"))[0]
        assert (row["tokens"], row["tags"]) == (["a", "b"], ["0", "1"]), name
    (tmp_path / "a.jsonl").write_text('{"tokens": ["a", null], "tags": [0, 1]}')
    assert "row 0, column tokens: the word at position 1 of the list is null" in str(
        read_problems(source_recipe({"path": "a.jsonl"}, objective="token-classification"))
    )


def test_words_of_a_cell() -> None:
    assert parse_words("['EU', 'rejects']") == ["EU", "rejects"]
    assert parse_words("[ EU ]") == ["[", "EU", "]"]
    assert parse_words("[EU 2026]") == ["[EU", "2026]"]
    assert parse_words("10\u00a0000 euros") == ["10\u00a0000", "euros"]
    assert parse_words("[]") == []


@settings(deadline=None, max_examples=80)
@given(
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=40), is_object=st.booleans()
)
def test_words_of_a_numpy_array_as_pandas_writes_it(words: list[str], is_object: bool) -> None:
    array = np.array(words, dtype=object if is_object else None)
    assert parse_words(str(array)) == array.tolist()
    assert parse_words(str(words)) == words


def test_words_of_arrays_of_numbers_and_of_lists_that_are_not_whole() -> None:
    assert parse_words(str(np.arange(12))) == [str(number) for number in range(12)]
    assert parse_words(str(np.array([1.0, 2.5]))) == ["1.0", "2.5"]
    with pytest.raises(ValueError, match="position 1 of the list is null"):
        parse_words(str(np.array(["a", None], dtype=object)))
    with pytest.raises(ValueError, match="cut short"):
        parse_words(str(np.array(["a"] * 1001)))
    with pytest.raises(ValueError, match="a comma is missing"):
        parse_words("['We', 'saw' 'Anna']")
    assert parse_words("['it, is', 'so']") == ["it, is", "so"]


@pytest.mark.parametrize(
    "cell",
    [
        "2026-01-05T10:00:00Z",
        "2026-01-05 11:00:00+01:00",
        "1767607200",
        1767607200.0,
        "1767607200000",
        datetime(2026, 1, 5, 10),
    ],
)
def test_moments(cell: Any) -> None:
    assert parse_moment(cell) == datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.mark.parametrize("cell", ["soon", "2026", "2026-13-01", "0001-01-01T00:00:00+14:00", "99999999999999999"])
def test_no_moments(cell: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_moment(cell)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1), line_end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_text_survives_csv(tmp_path_factory: pytest.TempPathFactory, rows: Any, line_end: str) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    assert read_back(tmp_path_factory, "a.csv", stream.getvalue()) == [
        (text or None, label or None) for text, label in rows
    ]


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1), ascii_only=st.booleans())
def test_any_text_survives_json_lines(tmp_path_factory: pytest.TempPathFactory, rows: Any, ascii_only: bool) -> None:
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=ascii_only) for text, label in rows]
    assert read_back(tmp_path_factory, "a.jsonl", "\n".join(lines) + "\n") == rows


def read_back(folders: pytest.TempPathFactory, name: str, content: str) -> list[tuple[str, str]]:
    """Write a file into a folder of its own and return its texts and labels as a recipe reads them."""
    folder = folders.mktemp("round")
    (folder / name).write_bytes(content.encode())
    (folder / "r.yaml").write_text(
        f"name: small\nobjective: {{type: text-classification}}\nbase_model: x\ndata: {{sources: [{{path: {name}}}]}}\n"
    )
    return [(row["text"], row["label"]) for row in read_only_piece(load_recipe(folder / "r.yaml"))]


def test_half_a_surrogate_pair_becomes_damage_that_the_contract_can_see(
    tmp_path: Path, source_recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "half \\ud83d, whole \\ud83d\\ude00", "label": "x"}\n')
    assert read_only_piece(source_recipe({"path": "a.jsonl"}))[0]["text"] == "half \ufffd, whole \U0001f600"


def test_paragraphs_of_plain_text_are_rows_alone_or_put_together(
    tmp_path: Path, source_recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "play.txt").write_bytes(b"A:\nGo.\r\n\n \t\nB:\nStay. \n\n\nC:\n\xff\n\nD:\n1\n\nE:\nx")
    source = {"path": "play.txt", "format": "text"}
    alone = read_only_piece(source_recipe(source, objective="causal-lm"))
    assert [row["text"] for row in alone] == ["A:\nGo.", "B:\nStay. ", None, "D:\n1", "E:\nx"]
    assert [row["problem"] and row["problem"][:25] for row in alone] == [
        None,
        None,
        "line 10: not valid utf-8;",
        None,
        None,
    ]
    together = read_only_piece(source_recipe({**source, "block": 12}, objective="causal-lm"))
    assert [row["text"] for row in together] == ["A:\nGo.\n\nB:\nStay. ", None]
    (tmp_path / "blank.txt").write_bytes(b"\n \n")
    assert "the file has no text" in read_error(
        source_recipe({"path": "blank.txt", "format": "text"}, objective="causal-lm")
    )


def test_another_size_of_rows_is_another_fingerprint(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "play.txt").write_text("a\n\nb")
    source = {"path": "play.txt", "format": "text"}
    by_default, by_nine = (
        sources.fingerprints(source_recipe({**source, "block": block}, objective="causal-lm"), {}) for block in (0, 9)
    )
    assert by_default != by_nine
