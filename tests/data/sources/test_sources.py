"""Files become pieces: what is read, what is read again, and what goes wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evertune.config import Recipe
from evertune.data.sources import content
from evertune.data.sources import read as sources
from evertune.errors import DataError
from evertune.runs import up_to_date
from evertune.runtime.home import Home
from tests.helpers.paths import ROOT


def read_only_piece(recipe: Recipe) -> list[dict[str, Any]]:
    """Return the rows of a recipe's only piece."""
    (piece,) = sources.read_sources(recipe, {})
    return list(piece.table.to_pylist())


def read_error(recipe: Recipe) -> str:
    """Return the message of the DataError that reading raises."""
    with pytest.raises(DataError) as error:
        list(sources.read_sources(recipe, {}))
    return str(error.value)


def test_rows_carry_roles_and_where_they_come_from(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "tickets").mkdir()
    (tmp_path / "tickets/week1.csv").write_text("no,message,intent,when\n007,hi,0,2026-01-05\n8,,None,soon\n")
    recipe = source_recipe(
        {"path": "tickets/*.csv", "split": "test"}, text="message", label="intent", id="no", timestamp="when"
    )
    first, second = read_only_piece(recipe)
    assert first == {
        "text": "hi",
        "label": "0",
        "id": "007",
        "timestamp": datetime(2026, 1, 5, tzinfo=UTC),
        "timestamp_problem": None,
        "source": "tickets/week1.csv",
        "source_row": 0,
        "given_split": "test",
        "problem": None,
        "problem_digest": None,
    }
    assert (second["text"], second["label"], second["source_row"]) == (None, "None", 1)
    assert (second["timestamp"], second["timestamp_problem"]) == (None, "soon")


def test_only_changed_files_are_read_again(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text("text,label\nhello,x\n")
        os.utime(tmp_path / f"{name}.csv", (1, 1))
    recipe = source_recipe({"path": "?.csv"})
    cache = {}
    seen = sources.fingerprints(recipe, cache)
    assert seen is not None
    assert [piece.uri for piece in sources.read_sources(recipe, {})] == ["a.csv", "b.csv"]
    assert seen == {piece.uri: piece.fingerprint for piece in sources.read_sources(recipe, {})}
    assert list(sources.read_sources(recipe, seen)) == []
    (tmp_path / "a.csv").write_text("text,label\nhullo,x\n")
    after = sources.fingerprints(recipe, cache)
    assert after is not None and after["a.csv"] != seen["a.csv"] and after["b.csv"] == seen["b.csv"]
    assert [piece.uri for piece in sources.read_sources(recipe, seen)] == ["a.csv"]


def test_a_night_reads_the_bytes_of_new_files_only(
    tmp_path: Path, source_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home", "small")
    digested = list[str]()
    file_digest = content.file_digest

    def note_and_digest(path: Path) -> str:
        digested.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(content, "file_digest", note_and_digest)
    recipe = source_recipe({"path": "?.csv"})
    seen = dict[str, str]()
    for night in ("a", "b", "c"):
        (tmp_path / f"{night}.csv").write_text(f"text,label\nhello {night},x\n")
        os.utime(tmp_path / f"{night}.csv", (1, 1))
        with up_to_date.open_file_cache(home) as cache:
            seen |= {piece.uri: piece.fingerprint for piece in sources.read_sources(recipe, seen, cache)}
    assert (list(seen), digested) == (["a.csv", "b.csv", "c.csv"], ["a.csv", "b.csv", "c.csv"])
    (tmp_path / "b.csv").write_text("text,label\nchanged b,x\n")
    with up_to_date.open_file_cache(home) as cache:
        assert [piece.uri for piece in sources.read_sources(recipe, seen, cache)] == ["b.csv"]


def test_the_cache_saves_reading_files_of_unchanged_size_and_time(
    tmp_path: Path, source_recipe: Callable[..., Recipe]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nhello,x\n")
    recipe = source_recipe({"path": "a.csv"})
    cache = {}
    sources.fingerprints(recipe, cache)
    assert cache == {}  # the file is so young that it may still change within one tick of the clock
    os.utime(path, (1, 1))
    before = sources.fingerprints(recipe, cache)
    path.write_text("text,label\nhullo,x\n")
    os.utime(path, (1, 1))
    assert sources.fingerprints(recipe, cache) == before  # same size, same time: not read
    assert sources.fingerprints(recipe, {}) != before


def test_another_mapping_reads_a_file_again(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "a.csv").write_text("text,label,topic\nhello,x,y\n")
    before = sources.fingerprints(source_recipe({"path": "a.csv"}), {})
    after = sources.fingerprints(source_recipe({"path": "a.csv"}, label="topic"), {})
    assert before != after


@pytest.mark.process
def test_fingerprints_of_files_and_samples_import_nothing_heavy(
    tmp_path: Path, source_recipe: Callable[..., Recipe]
) -> None:
    source_recipe({"path": "rows.csv"}, {"sample": "support-tickets"})
    code = (
        "import sys; from evertune.data.sources import read as sources; from evertune.config import load_recipe;"
        f"sources.fingerprints(load_recipe({str(tmp_path / 'recipe.yaml')!r}), {{}});"
        "heavy = {'pandas', 'pyarrow', 'datasets', 'torch', 'sqlalchemy', 'deltalake', 'transformers'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_a_file_of_two_sources_belongs_to_the_first(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\nhello, you\tx\n")
    pieces = sources.read_sources(
        source_recipe({"path": "test.tsv", "split": "test"}, {"path": "*.tsv", "split": "train"}), {}
    )
    splits = {piece.uri: piece.table["given_split"][0].as_py() for piece in pieces}
    assert splits == {"test.tsv": "test", "train.tsv": "train"}
    assert "narrower source first" in read_error(
        source_recipe({"path": "*.tsv"}, {"path": "test.tsv", "split": "test"})
    )


def test_a_folder_gives_its_data_files(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "d/.hidden").mkdir(parents=True)
    for name in ("d/b.csv", "d/.hidden/c.csv", "d/.d.csv"):
        (tmp_path / name).write_text("text,label\nhello,x\n")
    (tmp_path / "d/a.jsonl").write_text('{"text": "hi", "label": 1}\n')
    (tmp_path / "d/read.me").write_text("nothing")
    for name in ("README.txt", "LICENSE-data.txt", "dataset_info.json"):
        (tmp_path / f"d/{name}").write_text("{}\n")
    recipe = source_recipe({"path": "d"})
    assert [piece.uri for piece in sources.read_sources(recipe, {})] == ["d/a.jsonl", "d/b.csv"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("nowhere/a.csv", "no such file (the folder "),
        ("a.csv", "a.csv: no such file; check the path"),
        ("*.parquet", "no file matches this pattern"),
        ("empty", "no data files in this folder"),
        ("table", "write `delta: table` instead"),
        ("saved", "write `hub: saved` instead"),
        ("recipe.yaml", "cannot tell the format from the file extension; set `format` to one of csv"),
    ],
)
def test_missing_files_say_what_to_do(
    tmp_path: Path, source_recipe: Callable[..., Recipe], path: str, expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "table/_delta_log").mkdir(parents=True)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/state.json").write_text("{}")
    assert expected in read_error(source_recipe({"path": path}))
    with pytest.raises(DataError):
        sources.fingerprints(source_recipe({"path": path}), {})


def test_missing_columns_are_all_named_with_those_that_exist(
    tmp_path: Path, source_recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "tickets.csv").write_text("Message,b,c\n1,2,3\n")
    message = read_error(source_recipe({"path": "tickets.csv"}, text="message"))
    assert "message: no such column in tickets.csv; it has Message, b, c; did you mean Message?" in message
    assert "label: no such column" in message and "data.columns.label" in message


def test_a_header_alone_is_no_rows(
    tmp_path: Path, source_recipe: Callable[..., Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "header.csv").write_text("text,label\n")
    assert read_only_piece(source_recipe({"path": "header.csv"})) == []
    assert "header.csv has no rows" in caplog.text


SCANNED = {
    "a.jsonl": b'{"text": "one"}\n{"text" "two"}\n{"text": ["x"]}\n{"text": "caf\xe9"}\n{"text": "five"}\n',
    "a.csv": b'text,other\none,x\ntwo\n"th"ree,x\ncaf\xe9,x\nfive,y\n',
}


@pytest.mark.parametrize("name", SCANNED)
def test_a_bad_row_never_stops_what_is_scored(tmp_path: Path, source_recipe: Callable[..., Recipe], name: str) -> None:
    (tmp_path / name).write_bytes(SCANNED[name])
    (inputs,) = sources.read_inputs(tmp_path / name, source_recipe({"path": "rows.csv"}))
    assert inputs.values == ["one", None, None, None, "five"]
    assert [problem is None for problem in inputs.problems] == [True, False, False, False, True]


def test_what_is_scored_has_the_delimiter_of_the_recipe(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    for sign, options in ((";", {}), (":", {"delimiter": ":"})):
        (tmp_path / "new.csv").write_text(f"number{sign}text\n1{sign}one\n")
        (inputs,) = sources.read_inputs(tmp_path / "new.csv", source_recipe({"path": "rows.csv", **options}))
        assert inputs.values == ["one"]


def test_a_file_that_a_command_names_needs_a_known_extension(
    tmp_path: Path, source_recipe: Callable[..., Recipe]
) -> None:
    """Unlike a source, a command has no `format` to set."""
    (tmp_path / "rows.dat").write_text("text\nhi\n")
    with pytest.raises(
        DataError, match=r"rows\.dat: cannot tell the format .*; rename the file to end in one of \.csv, \.tsv"
    ):
        next(sources.read_inputs(str(tmp_path / "rows.dat"), source_recipe({"path": "*.csv"})))


def test_what_is_scored_comes_in_parts(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    recipe = source_recipe({"path": "rows.csv"})
    (tmp_path / "long.csv").write_text("text\n" + "hello\n" * 25_000)
    pq.write_table(pa.table({"text": ["hello"] * 25_000}), tmp_path / "long.parquet")
    for name in ("long.csv", "long.parquet"):
        assert [len(part.values) for part in sources.read_inputs(tmp_path / name, recipe)] == [10_000, 10_000, 5_000]
    with pytest.raises(DataError, match=r"text: no such column in .*; it has label"):
        (tmp_path / "bare.csv").write_text("label\na\n")
        list(sources.read_inputs(tmp_path / "bare.csv", recipe))


def test_what_is_scored_is_read_in_the_recipes_encoding(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "a.csv").write_bytes("text\ncafé\n".encode("latin-1"))
    (inputs,) = sources.read_inputs(tmp_path / "a.csv", source_recipe({"path": "rows.csv", "encoding": "latin-1"}))
    assert inputs.values == ["café"]
    (inputs,) = sources.read_inputs(tmp_path / "a.csv", source_recipe({"path": "rows.csv"}), encoding="latin-1")
    assert inputs.values == ["café"]


def test_what_is_scored_keeps_its_columns(tmp_path: Path, source_recipe: Callable[..., Recipe]) -> None:
    recipe = source_recipe({"path": "rows.csv"}, text="message", id="number")
    (tmp_path / "a.jsonl").write_text(
        '{"number": 7, "message": "one", "more": {"a": [1]}, "label": true}\n{"number": 8}\n'
    )
    (inputs,) = sources.read_inputs(tmp_path / "a.jsonl", recipe)
    assert inputs.values == ["one", None]
    assert inputs.table.to_pylist() == [
        {"number": "7", "message": "one", "more": '{"a": [1]}', "label": "true"},
        {"number": "8", "message": None, "more": None, "label": None},
    ]
    table = pa.table({"message": ["one"], "number": [7], "more": [{"a": [1]}], "day": [date(2026, 1, 5)]})
    pq.write_table(table, tmp_path / "a.parquet")
    (inputs,) = sources.read_inputs(tmp_path / "a.parquet", recipe)
    assert inputs.table.schema == table.schema
    assert inputs.table.to_pylist() == table.to_pylist()


def test_benchmark_files(shared_data: Path, source_recipe: Callable[..., Recipe]) -> None:
    recipe = source_recipe({"path": str(shared_data / "banking77/*.csv")}, label="category")
    assert {piece.uri.split("/")[-1]: piece.table.num_rows for piece in sources.read_sources(recipe, {})} == {
        "test.csv": 3080,
        "train.csv": 10003,
    }
    (piece,) = sources.read_sources(
        source_recipe({"path": str(shared_data / "conll2003/test.txt")}, objective="token-classification"), {}
    )
    assert piece.table.num_rows == 3453
    assert sum(len(tags) for tags in piece.table["tags"].to_pylist()) == 46435
