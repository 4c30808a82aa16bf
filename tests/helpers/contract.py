"""Rows and verdicts, as the contract's tests use them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evertune.config import Recipe
from evertune.data.columns.chunks import make_row_reader
from evertune.data.contract.judge import BatchStoppedError, Verdicts, check_batch, check_rows
from tests.helpers.data import good, keyed_rows, recipe

NOTHING_KNOWN = pa.schema([("input_digest", pa.int64()), ("target_digest", pa.int64())]).empty_table()


def nothing(_wanted: pa.Array) -> pa.Table:
    return NOTHING_KNOWN


def rows_of(pairs: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in pairs]


def verdicts(folder: Path, rows: list[dict[str, Any]], known: tuple[str, ...] = (), **sections: Any) -> Verdicts:
    one = recipe(folder, **sections)
    return check_rows(keyed_rows(one, rows), one, known, nothing)


def refused(found: Verdicts) -> list[tuple[list[str], list[str]]]:
    return [(row["kinds"], row["reasons"]) for row in found.refused.to_pylist()]


def judged(table: pa.Table, one: Recipe, known: tuple[str, ...] = (), docs: Path | None = None) -> Verdicts:
    """What the contract says of a batch; the rows that it accepts are there too."""
    taken: list[pa.Table] = []
    found = check_batch(make_row_reader(table), table.column_names, one, known, nothing, taken.append, docs)
    return replace(found, accepted=pa.concat_tables(taken))


def stopped(folder: Path, rows: list[dict[str, Any]], known: tuple[str, ...] = (), **sections: Any) -> str:
    one = recipe(folder, **sections)
    with pytest.raises(BatchStoppedError) as stop:
        judged(keyed_rows(one, rows), one, known)
    return str(stop.value)


GOOD = rows_of(good(20))
