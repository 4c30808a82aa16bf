"""A batch that is worked on in small parts gives the tables that it gives as a whole."""

from pathlib import Path
from typing import Any

import pytest
from data_helpers import good, home, recipe, run, write_csv

from evertune.contract import judging
from evertune.corpus import delta_tables, parts_file, reading, staging, view
from evertune.home import Home, read_json

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
    found = []
    for night, rows in enumerate(plain):
        other = "refund" if night == 1 else "card"
        marked = [
            [*row, f"n{place % 33}", f"2026-0{night + 1}-{1 + place % 28:02} 10:00:00", f"g{place % 11}"]
            for place, row in enumerate(rows)
        ]
        marked[0][1], marked[0][0] = other, texts[0][0]
        found.append(marked)
    return found


def tables(folder: Path, mapped: bool) -> tuple[Home, list[Any]]:
    sections = {"data": {"sources": [{"path": "rows.csv"}], "columns": COLUMNS}} if mapped else {}
    contract = {"tolerance": 0.9, "expectations": EXPECTATIONS, "label": {"values": ["card", "refund"]}}
    one, place = recipe(folder, contract=contract, **sections), home(folder)
    header = ["text", "label", *COLUMNS.values()] if mapped else ["text", "label"]
    snapshots = []
    for rows in nights(folder, mapped):
        write_csv(folder / "rows.csv", rows, header)
        snapshots.append(run(one, place))
    return place, snapshots


def kept(place: Home) -> list[list[dict[str, Any]]]:
    order = [("batch", "ascending"), ("row_version", "ascending")]
    return [delta_tables.read(path).sort_by(order).to_pylist() for path in (place.corpus, place.quarantine)]


@pytest.mark.parametrize("mapped", [False, True], ids=["no id", "id"])
def test_small_parts_change_nothing(tmp_path: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, snapshots = tables(tmp_path / "whole", mapped)
    for module in (judging, parts_file, reading, staging, view):
        monkeypatch.setattr(module, "PART", 3)
    parts, same = tables(tmp_path / "parts", mapped)
    assert kept(parts) == kept(whole)
    assert len(kept(parts)[0]) > 30
    assert len(kept(parts)[1]) > 4
    assert same == snapshots
    assert (read_json(parts.model / "labels.json"), read_json(parts.state)["batch"]) == (
        read_json(whole.model / "labels.json"),
        read_json(whole.state)["batch"],
    )
