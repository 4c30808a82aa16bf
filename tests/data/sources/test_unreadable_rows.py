"""A row that cannot be read is refused like any other: once, with its reason, and without losing other rows."""

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
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from tests.helpers.contract import GOOD
from tests.helpers.contract import check_as_batch as judged
from tests.helpers.data import TOKENS, current, good, ingest, keyed_rows, make_home, make_recipe, run

CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in good(100))
LINES = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in good(100))
SENTENCES = "".join(f"Rome{number} B-LOC\nsleeps O\n\n" for number in range(100))
MORE = {"csv": "one more,card\n", "json": '{"text": "one more", "label": "card"}\n', "conll": "Oslo B-LOC\n\n"}

BROKEN = {
    "torn": ("json", LINES, b'{"text": "torn', "line 101: not JSON"),
    "list": ("json", LINES, b'{"text": ["a"], "label": "card"}', "row 100, column text: expected a text, found list"),
    "byte": ("json", LINES, b'{"text": "caf\xe9", "label": "card"}', "line 101: not valid utf-8; set `encoding: lat"),
    "many": ("csv", CSV, b"hello, you,card", "line 102: 3 cells, but the header has 2"),
    "few": ("csv", CSV, b"hello", "line 102: 1 cell, but the header has 2"),
    "open": ("csv", CSV, b'"hello,card', "line 102: a quote that opens here is never closed"),
    "quotes": ("csv", CSV, b'"say "hi" now",card', "line 102: text goes on after a closing quote"),
    "csv byte": ("csv", CSV, b"caf\xe9,card", "line 102: not valid utf-8"),
    "column": ("conll", SENTENCES, b"Rome X B-LOC\nsleeps O\n", "line 301: expected 2 columns, found 3"),
}


def write_recipe_of_file(folder: Path, ending: str, content: bytes) -> tuple[Recipe, Home]:
    """Write a file and return a recipe that reads it, and its home."""
    (folder / f"rows.{ending}").write_bytes(content)
    objective = {"objective": TOKENS} if ending == "conll" else {}
    return make_recipe(folder, data={"sources": [{"path": f"rows.{ending}"}]}, **objective), make_home(folder)


@pytest.mark.parametrize("name", BROKEN)
def test_it_is_refused_once_and_the_others_are_ingested(tmp_path: Path, name: str) -> None:
    ending, rows, line, reason = BROKEN[name]
    recipe, home = write_recipe_of_file(tmp_path, ending, rows.encode() + line + b"\n" + MORE[ending].encode())
    snapshot = run(recipe, home)
    assert (snapshot.accepted, snapshot.refused, snapshot.reasons) == (101, 1, {UNREADABLE: 1})
    (row,) = quarantine.list_refused(home).to_pylist()
    assert row["kinds"] == [UNREADABLE]
    assert row["reasons"][0].startswith(reason)
    write_recipe_of_file(
        tmp_path, ending, b"\n" + rows.encode() + line + b"\n" if ending == "json" else rows.encode() + line + b"\n"
    )
    assert ingest(recipe, home).rows == 0  # the same line, at another position or in a changed file


def test_a_mended_line_is_fresh_and_so_is_one_broken_in_another_way(tmp_path: Path) -> None:
    recipe, home = write_recipe_of_file(tmp_path, "csv", CSV.encode() + b"hello, you,card\n")
    run(recipe, home)
    write_recipe_of_file(tmp_path, "csv", CSV.encode() + b'"hello, you",card\n')
    assert run(recipe, home).accepted == 1
    others = "".join(f"{text},{label}\n" for text, label in good(30, start=100))
    write_recipe_of_file(tmp_path, "csv", CSV.encode() + b"ciao, you,card\n" + others.encode())
    assert run(recipe, home).refused == 1
    assert len(quarantine.list_refused(home)) == 2


def test_a_wrong_encoding_stops_the_batch_and_says_what_to_do(tmp_path: Path) -> None:
    recipe, home = write_recipe_of_file(tmp_path, "csv", CSV.replace("alpha", "caf\u00e9").encode("latin-1"))
    with pytest.raises(BatchStoppedError) as stop:
        run(recipe, home)
    assert "refused 100 of 100 rows" in str(stop.value)
    assert "rows.csv, row 0: line 2: not valid utf-8; set `encoding: latin-1` (or the right one)" in str(stop.value)


def test_what_could_be_read_of_it_is_kept_for_the_one_who_mends(tmp_path: Path) -> None:
    text = "id,text,label\n" + "".join(f"n{number},{row[0]},{row[1]}\n" for number, row in enumerate(good(100)))
    (tmp_path / "rows.csv").write_bytes(text.encode() + b"x,caf\xe9 ole,card\n")
    recipe = make_recipe(tmp_path, data={"sources": [{"path": "rows.csv"}], "columns": {"id": "id"}})
    home = make_home(tmp_path)
    run(recipe, home)
    (row,) = quarantine.list_refused(home).to_pylist()
    assert (row["id"], row["text"], row["label"]) == ("x", "caf\ufffd ole", "card")
    (tmp_path / "rows.csv").write_text(text + "x,caf\u00e9 ole,card\n", encoding="utf-8")
    assert run(recipe, home).accepted == 1
    assert len(quarantine.list_refused(home)) == 0  # the source mended it


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_it_is_released_once_a_person_has_mended_it(tmp_path: Path, ending: str) -> None:
    recipe, home = write_recipe_of_file(
        tmp_path, "json", LINES.encode() + b'{"text": "caf\xe9 ole", "label": "card"}\n{"text": "torn\n'
    )
    run(recipe, home)
    assert quarantine.release_rows(RunContext(recipe, home)).reasons == {UNREADABLE: 2}
    path = tmp_path / f"refused.{ending}"
    quarantine.export_refused(home, path)
    assert quarantine.release_rows(RunContext(recipe, home), read_mended(path, recipe)).released == 0
    path.write_text(path.read_text(encoding="utf-8").replace("caf\ufffd", "caf\u00e9"), encoding="utf-8")
    release = quarantine.release_rows(RunContext(recipe, home), read_mended(path, recipe))
    assert (release.released, release.kept, release.reasons) == (1, 1, {UNREADABLE: 1})
    assert [row["label"] for row in current(home) if row["text"] == "caf\u00e9 ole"] == ["card"]
    write_recipe_of_file(
        tmp_path, "json", LINES.encode() + b'\n{"text": "caf\xe9 ole", "label": "card"}\n{"text": "torn\n'
    )
    assert ingest(recipe, home).rows == 0


def test_no_other_check_is_applied_to_it_and_the_tables_keep_their_columns(tmp_path: Path) -> None:
    recipe = make_recipe(
        tmp_path,
        contract={"expectations": [{"type": "expect_column_values_to_not_be_null", "column": "text"}]},
    )
    rows = keyed_rows(recipe, [*GOOD, {"text": None, "label": "slip", "problem": "line 9: torn"}])
    verdicts = judged(rows, recipe, (), tmp_path / "docs")
    assert verdicts.reasons == {UNREADABLE: 1}
    assert verdicts.refused["reasons"].to_pylist() == [["line 9: torn"]]
    result = read_json(tmp_path / "docs" / "result.json")
    assert result is not None
    assert (result["success"], result["expectations"] - result["passed"]) == (False, 1)
    recipe, home = write_recipe_of_file(tmp_path, "csv", CSV.encode() + b"a,b,c\n")
    run(recipe, home)
    for table in (home.corpus, home.quarantine):
        names = [field.name for field in DeltaTable(str(table)).schema().fields]
        assert not {"problem", "problem_digest"} & set(names)


def test_a_batch_of_nothing_else_is_stopped(tmp_path: Path) -> None:
    recipe, home = write_recipe_of_file(tmp_path, "csv", b"text,label\na,b,c\n")
    with pytest.raises(BatchStoppedError, match="1  unreadable row"):
        run(recipe, home)


def test_cells_of_a_parquet_file_count_too(tmp_path: Path) -> None:
    rows = [{"tokens": [f"Rome{number}", "is"], "tags": ["B-LOC", "O"]} for number in range(100)]
    rows.append({"tokens": ["Oslo", None], "tags": ["B-LOC", "O"]})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    recipe = make_recipe(tmp_path, objective=TOKENS, data={"sources": [{"path": "rows.parquet"}]})
    assert run(recipe, make_home(tmp_path)).reasons == {UNREADABLE: 1}


def test_check_counts_it(tmp_path: Path, write_recipe: Callable[..., Path], tiny_model: Path) -> None:
    recipe, _ = write_recipe_of_file(tmp_path, "csv", CSV.encode() + b"a,b,c\n")
    shown = preview.preview_recipe(recipe.model_copy(update={"base_model": str(tiny_model)}), 2000)
    assert (shown.accepted, shown.reasons) == (100, {UNREADABLE: 1})
    assert shown.notes[0].startswith("cannot be read: rows.csv, line 102: 3 cells")
    recipe, _ = write_recipe_of_file(tmp_path, "csv", b"text,label\ncaf\xe9,card\n")
    with pytest.raises(DataError, match=r"no row can be read; rows.csv, line 2: not valid utf-8"):
        preview.preview_recipe(recipe, 2000)


def test_a_batch_that_an_older_evertune_staged_is_read_again(tmp_path: Path, monkeypatch: Any) -> None:
    recipe, home = write_recipe_of_file(tmp_path, "csv", CSV.encode())
    batch = ingest(recipe, home)
    rows = pq.read_table(str(batch.path)).drop_columns(["problem", "problem_digest"])
    _, notes = staging.find_staged_batch(home) or (None, {})
    staging.write_table(Path(str(batch.path)), rows, {**notes, "shape": "as it was before"})
    assert run(recipe, home).accepted == 100
