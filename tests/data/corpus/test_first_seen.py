"""A row that its source writes again with another timestamp only is not new to the champion."""

from pathlib import Path
from typing import Any

import pytest

from evertune.config import Recipe
from evertune.data.corpus import transactions as corpus
from evertune.evaluation.test_rows import load_test_rows
from evertune.monitoring import monitor as monitoring
from evertune.runtime.context import RunContext
from evertune.runtime.files import write_json
from evertune.runtime.home import Home
from tests.helpers.data import good, make_home, make_recipe, run, write_csv

HEADER = ("id", "at", "text", "label")
COLUMNS: dict[str, Any] = {
    "sources": [{"path": "*.csv"}],
    "columns": {"id": "id", "timestamp": "at"},
    "split": {"test": 0.5},
}


def test_touched_rows_keep_the_batch_that_brought_them_and_corrected_ones_do_not(tmp_path: Path) -> None:
    recipe, home = _touched(tmp_path, corrected=3)
    rows = corpus.read_rows(home, corpus.newest_version(home), ["row_version", "row_key", "batch", "id"])
    assert set(rows["batch"].to_pylist()) == {2}
    first = dict(zip(rows["id"].to_pylist(), corpus.find_first_batches(home, rows, recipe).tolist(), strict=True))
    assert {name for name, batch in first.items() if batch == 2} == {"0", "1", "2", "100", "101"}


def test_the_gate_has_its_history_after_the_source_has_touched_every_row(
    tmp_path: Path,
) -> None:
    recipe, home = _touched(tmp_path, corrected=0)
    rows, _ = load_test_rows(RunContext(recipe, home), corpus.newest_version(home), since=1)
    old = {row["id"]: row["batch"] for row in rows.to_pylist()}
    assert len(old) > 5
    assert {name for name, batch in old.items() if batch > 1} <= {"100", "101"}


@pytest.mark.slow
def test_new_labels_do_not_count_touched_rows(tmp_path: Path) -> None:
    recipe, home = _touched(tmp_path, corrected=3)
    (tmp_path / "champion").mkdir()
    write_json(tmp_path / "champion" / "evertune.json", {"snapshot": {"batch": 1}})
    assert monitoring.count_new_rows(RunContext(recipe, home), tmp_path / "champion") == 5


def test_a_label_that_source_and_recipe_rename_is_not_new(tmp_path: Path) -> None:
    rows = [(str(number), *row) for number, row in enumerate(good(20))]
    data = {"sources": [{"path": "*.csv"}], "columns": {"id": "id"}}
    home = make_home(tmp_path)
    renamed = make_recipe(tmp_path, data=data, contract={"label": {"rename": {"card": "bank card"}}})
    write_csv(tmp_path / "a.csv", rows, ("id", "text", "label"))
    run(make_recipe(tmp_path, data=data), home)
    write_csv(
        tmp_path / "a.csv", [(*row[:2], row[2].replace("card", "bank card")) for row in rows], ("id", "text", "label")
    )
    run(renamed, home)
    rows_now = corpus.read_rows(home, corpus.newest_version(home), ["row_version", "row_key", "batch"])
    assert set(rows_now["batch"].to_pylist()) == {1, 2}
    assert set(corpus.find_first_batches(home, rows_now, renamed).tolist()) == {1}


def test_without_ids_every_version_is_a_row(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    run(recipe, home)
    rows = corpus.read_rows(home, corpus.newest_version(home), ["row_version", "row_key", "batch"])
    assert corpus.find_first_batches(home, rows, recipe).tolist() == [1] * 20


def _touched(folder: Path, corrected: int) -> tuple[Recipe, Home]:
    """Rows; the next day the same rows with its date, the first of them with other labels, and two new ones."""
    recipe = make_recipe(folder, data=COLUMNS)
    home = make_home(folder)
    rows = [(str(number), "2026-01-01", *row) for number, row in enumerate(good(30))]
    write_csv(folder / "a.csv", rows, HEADER)
    run(recipe, home)
    other = {"card": "refund", "refund": "card"}
    again = [
        (name, "2026-01-02", text, other[label] if int(name) < corrected else label) for name, _, text, label in rows
    ]
    new = [(str(100 + number), "2026-01-02", *row) for number, row in enumerate(good(2, start=100))]
    write_csv(folder / "a.csv", [*again, *new], HEADER)
    run(recipe, home)
    return recipe, home
