"""Rows and verdicts for tests of the contract."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evertune.config import Recipe
from evertune.data.columns.chunks import make_row_reader
from evertune.data.contract.judge import BatchStoppedError, Verdicts, check_batch, check_rows
from tests.helpers.data import good, keyed_rows, make_recipe

NOTHING_KNOWN = pa.schema([("input_digest", pa.int64()), ("target_digest", pa.int64())]).empty_table()


def no_known_inputs(_wanted: pa.Array) -> pa.Table:
    return NOTHING_KNOWN


def make_rows(pairs: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in pairs]


def check(folder: Path, rows: list[dict[str, Any]], known: tuple[str, ...] = (), **sections: Any) -> Verdicts:
    recipe = make_recipe(folder, **sections)
    return check_rows(keyed_rows(recipe, rows), recipe, known, no_known_inputs)


def list_refusals(verdicts: Verdicts) -> list[tuple[list[str], list[str]]]:
    return [(row["kinds"], row["reasons"]) for row in verdicts.refused.to_pylist()]


def check_as_batch(table: pa.Table, recipe: Recipe, known: tuple[str, ...] = (), docs: Path | None = None) -> Verdicts:
    """Check rows as a batch and return the verdicts with the accepted rows."""
    accepted_chunks: list[pa.Table] = []
    verdicts = check_batch(
        make_row_reader(table), table.column_names, recipe, known, no_known_inputs, accepted_chunks.append, docs
    )
    return replace(verdicts, accepted=pa.concat_tables(accepted_chunks))


def stop_message(folder: Path, rows: list[dict[str, Any]], known: tuple[str, ...] = (), **sections: Any) -> str:
    recipe = make_recipe(folder, **sections)
    with pytest.raises(BatchStoppedError) as stop:
        check_as_batch(keyed_rows(recipe, rows), recipe, known)
    return str(stop.value)


GOOD = make_rows(good(20))
