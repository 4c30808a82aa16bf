"""A batch that is worked on in small parts gives the tables that it gives as a whole."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evertune.data.columns import components
from evertune.data.contract import batch as judging
from evertune.data.contract import judge as contract
from evertune.data.corpus import delta_tables, staging
from evertune.data.corpus import fresh_rows as reading
from evertune.data.corpus import parquet_chunks as chunk_files
from evertune.data.corpus import read as view
from evertune.data.splits import groups
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.runtime.threads import Spread
from tests.helpers.data import good, make_home, make_recipe, run, write_csv

pytestmark = pytest.mark.slow

COLUMNS = {"id": "id", "timestamp": "at", "group": "who"}
EXPECTATIONS = [
    {"type": "expect_column_values_to_match_regex", "column": "text", "regex": "^[^z]", "mostly": 0.9},
    {"type": "expect_column_values_to_be_unique", "column": "text"},
    {"type": "expect_column_value_lengths_to_be_between", "column": "text", "max_value": 200},
]


def nights(folder: Path, mapped: bool) -> list[list[list[Any]]]:
    """Rows of three nights: new, repeated, near, refused, corrected and corrected back."""
    texts = good(40)
    second = [(f"{text} again", label) for text, label in texts[:7]]
    bad = [("", "card"), ("cafÃ© ole", "card"), ("one text twice", "card"), ("one text twice", "refund"), ("x", "")]
    plain = [[*texts[:30], *texts[:3], *bad], [*texts[20:], *second, *bad[:2]], [*texts[:5], ("so new", "card")]]
    if not mapped:
        return [[list(row) for row in rows] for rows in plain]
    marked_nights = []
    for night, rows in enumerate(plain):
        other = "refund" if night == 1 else "card"
        marked = [
            [*row, f"n{index % 33}", f"2026-0{night + 1}-{1 + index % 28:02} 10:00:00", f"g{index % 11}"]
            for index, row in enumerate(rows)
        ]
        marked[0][1] = other
        marked[0][0] = texts[0][0]
        marked_nights.append(marked)
    return marked_nights


def tables(folder: Path, mapped: bool, spread: Spread | None = None) -> tuple[Home, list[Any]]:
    sections = {"data": {"sources": [{"path": "rows.csv"}], "columns": COLUMNS}} if mapped else {}
    contract = {"tolerance": 0.9, "expectations": EXPECTATIONS, "label": {"values": ["card", "refund"]}}
    recipe = make_recipe(folder, contract=contract, **sections)
    home = make_home(folder)
    header = ["text", "label", *COLUMNS.values()] if mapped else ["text", "label"]
    snapshots = []
    for rows in nights(folder, mapped):
        write_csv(folder / "rows.csv", rows, header)
        snapshots.append(run(recipe, home, spread, folder / "docs"))
    return home, snapshots


def read_tables(home: Home) -> list[list[dict[str, Any]]]:
    order = [("batch", "ascending"), ("row_version", "ascending")]
    return [delta_tables.read_rows(path).sort_by(order).to_pylist() for path in (home.corpus, home.quarantine)]


@pytest.mark.parametrize("mapped", [False, True], ids=["no id", "id"])
def test_small_parts_change_nothing(tmp_path: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, snapshots = tables(tmp_path / "whole", mapped)
    for module in (judging, chunk_files, reading, staging, view):
        monkeypatch.setattr(module, "PART", 3)
    for module in (components, groups):
        monkeypatch.setattr(module, "BLOCK", 2)
    parts, same = tables(tmp_path / "parts", mapped)
    assert_equal(parts, whole, tmp_path)
    assert same == snapshots


def assert_equal(home: Home, other: Home, folder: Path) -> None:
    """The same rows, labels and verdicts."""
    assert read_tables(home) == read_tables(other)
    assert (len(read_tables(home)[0]) > 30, len(read_tables(home)[1]) > 4) == (True, True)
    assert read_json(home.model / "labels.json") == read_json(other.model / "labels.json")
    assert read_json(home.state)["batch"] == read_json(other.state)["batch"]
    verdicts = [read_json(file) for file in folder.glob("*/docs/result.json")]
    assert verdicts[0] == verdicts[1]
    assert verdicts[0]["expectations"] > len(EXPECTATIONS)


@pytest.mark.parametrize("mapped", [False, True], ids=["no id", "id"])
def test_parts_that_travel_are_judged_the_same(tmp_path: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs' arguments and results are pickled, as a cluster does; the real one is in test_engine.py."""
    whole, snapshots = tables(tmp_path / "whole", mapped)
    sizes: list[int] = []

    def spread(function: Callable[..., Any], jobs: Iterable[dict[str, Any]]) -> Iterator[Any]:
        for job in jobs:
            travelled = pickle.loads(pickle.dumps(job))
            sizes.append(len(travelled["chunk"].rows) + len(travelled["chunk"].unreadable))
            yield pickle.loads(pickle.dumps(function(**travelled)))

    for module in (judging, contract):
        monkeypatch.setattr(module, "SENT", 3)
    travelled, same = tables(tmp_path / "travelled", mapped, spread)
    assert max(sizes) == 3
    assert sum(sizes) > 30
    assert_equal(travelled, whole, tmp_path)
    assert same == snapshots
