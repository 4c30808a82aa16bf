"""Assign splits to rows without a corpus."""

from typing import Any

import pyarrow as pa

from evertune.config.data import SplitRules
from evertune.data.splits import assign as splits
from tests.helpers.data import keyed_rows

RULES = SplitRules()
SEEN: dict[str, str] = {}  # texts by row version, of all rows of `assign_in_memory`
KINDS = {"component": pa.int64(), "joins": pa.list_(pa.int64()), "normal_digest": pa.int64(), "signature": pa.binary()}
EMPTY = pa.schema([(name, KINDS.get(name, pa.string())) for name in splits.KNOWN]).empty_table()


def assign_in_memory(
    recipe: Any, rows: list[dict[str, Any]], known: pa.Table | None = None, **options: Any
) -> pa.Table:
    """The rows with their splits, after those of `known`; `options` go to `assign.split_rows`."""
    table = keyed_rows(
        recipe, [{"text": None, "label": "x", "group": None, **row} for row in rows] or [{"text": "", "label": ""}]
    )
    table = table if rows else table.slice(0, 0)
    before = EMPTY if known is None else known.select(list(splits.KNOWN))
    SEEN.update(zip(table["row_version"].to_pylist(), table["text"].to_pylist(), strict=True))
    return splits.split_rows(table, before, options.pop("rules", RULES), "text", look_up, **options)


def look_up(versions: pa.Array) -> pa.Array:
    """The texts of row versions that `assign_in_memory` has seen, as the corpus gives them."""
    return pa.array([SEEN[version] for version in versions.to_pylist()], pa.string())
