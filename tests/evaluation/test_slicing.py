"""Slices of test rows by when they came."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from evertune.evaluation import slices as slicing
from evertune.evaluation.row_facts import describe_rows
from evertune.objectives import load_objective
from tests.helpers.model import recipe, table, text_rows

START = datetime(2026, 3, 1, tzinfo=UTC)


def windows(rows: list[dict[str, Any]], since: int) -> dict[str, Any]:
    one = recipe(Path("model"), evaluation={"slices": ["window"]})
    test = table([{"timestamp": None, **row} for row in rows], "test")
    columns = pa.schema(
        [
            *(field for field in test.schema if field.name != "timestamp"),
            pa.field("timestamp", pa.timestamp("us", "UTC")),
        ]
    )
    test = test.select(columns.names).cast(columns)
    inputs = test["text"].to_pylist()
    targets = test["label"].to_pylist()
    objective = load_objective("text-classification")
    facts = describe_rows(objective, inputs, targets, test, sorted(set(targets)))
    return slicing.cut_slices(one.evaluation.slices, facts, since)


def batches(sizes: list[int]) -> list[dict[str, Any]]:
    numbers = [number for number, size in enumerate(sizes, 1) for _ in range(size)]
    return [{**row, "batch": batch} for row, batch in zip(text_rows(len(numbers)), numbers, strict=True)]


def test_windows_hold_what_the_champion_knew_the_oldest_first() -> None:
    found = windows(batches([10, 10, 10, 10, 10, 7]), since=5)
    assert list(found) == ["window=batches 1 to 2", "window=batch 3", "window=batch 4", "window=batch 5"]
    every = np.sum(list(found.values()), axis=0)
    assert every.tolist() == [1] * 50 + [0] * 7


def test_rows_with_timestamps_are_cut_by_them() -> None:
    rows = [{**row, "timestamp": START + timedelta(days=place)} for place, row in enumerate(batches([60, 20]))]
    found = windows(rows[::-1], since=1)
    assert next(iter(found)) == "window=2026-03-01 to 2026-03-15"
    assert [int(mask.sum()) for mask in found.values()] == [15, 15, 15, 15]
    rows[3]["timestamp"] = None
    assert not windows(rows, since=1)  # one batch, which is all that the champion knew: no window tells more


def test_windows_of_one_day_are_told_apart_by_the_time_of_day() -> None:
    rows = [{**row, "timestamp": START + timedelta(minutes=place)} for place, row in enumerate(batches([40]))]
    found = windows([*rows, {**text_rows(1)[0], "batch": 2, "timestamp": START + timedelta(days=9)}], since=1)
    assert [int(mask.sum()) for mask in found.values()] == [10, 10, 10, 10]
    assert next(iter(found)) == "window=2026-03-01T00:00:00 to 2026-03-01T00:09:00"


@pytest.mark.parametrize("since", [0, 9])
def test_rows_of_one_window_are_no_slice(since: int) -> None:
    assert not windows(batches([20]), since)
