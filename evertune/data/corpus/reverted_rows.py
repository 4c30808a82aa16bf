"""With an id: find versions that the corpus had before and that return, such as a correction that is undone."""

import logging
import re
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.corpus.read import read_history, select_newest
from evertune.data.row_versions import has_id, renumber_rows
from evertune.runtime.context import RunContext

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_VERSION = r"^(delta:.*)@v\d+$"  # a Delta table is the same source at every version
PAST = ("row_key", "row_version", "batch", "timestamp", "position", "occurrence", "source")
logger = logging.getLogger(__name__)


def number_returning_rows(rows: "pa.Table", context: RunContext, *, by_hand: bool = False) -> "pa.Table":
    """Return the rows; a returning one gets a new version, numbered by the versions that its key has had.

    A superseded version returns if the source that gave the current version now holds the superseded one instead.
    Another source may just be older, so its rows do not return; a warning counts them.

    Args:
        rows: from `row_versions.add_keys`.
        by_hand: a person gave the rows, so every superseded version returns.
    """
    import pyarrow.compute as pc

    if not has_id(context.recipe) or not len(rows):
        return rows
    past_rows = read_history(context.home, PAST, rows["row_key"])
    if not len(past_rows):
        return rows
    current_rows = select_newest(past_rows)
    aligned_current = current_rows.take(pc.index_in(rows["row_key"], value_set=current_rows["row_key"]))
    rows = _adopt_current_version(rows, aligned_current, context.recipe)
    is_returning = _find_superseded(rows, aligned_current, past_rows)
    if not by_hand:
        is_returning = _keep_from_same_source(rows, aligned_current, is_returning)
    version_counts = pc.value_counts(past_rows["row_key"])
    indices = pc.index_in(rows["row_key"], value_set=version_counts.field("values"))
    return _renumber_rows(rows, is_returning, version_counts.field("counts").take(indices), context.recipe)


def _adopt_current_version(rows: "pa.Table", aligned_current: "pa.Table", recipe: Recipe) -> "pa.Table":
    """Give a row with the content of a current version that itself returned that version, not the older one."""
    import pyarrow.compute as pc

    has_returned = pc.fill_null(pc.greater(aligned_current["occurrence"], 0), False)
    if not pc.any(has_returned).as_py():
        return rows
    numbered_rows = _renumber_rows(rows, has_returned, aligned_current["occurrence"], recipe)
    is_same = pc.fill_null(pc.equal(numbered_rows["row_version"], aligned_current["row_version"]), False)
    return _renumber_rows(rows, is_same, aligned_current["occurrence"], recipe)


def _renumber_rows(
    rows: "pa.Table", is_chosen: "pa.ChunkedArray", numbers: "pa.Array | pa.ChunkedArray", recipe: Recipe
) -> "pa.Table":
    """Return the rows; chosen ones get their occurrence number and the version that follows from it."""
    import numpy as np

    indices = np.flatnonzero(is_chosen)
    return renumber_rows(rows, indices, numbers.take(indices), recipe)


def _find_superseded(rows: "pa.Table", aligned_current: "pa.Table", past_rows: "pa.Table") -> "pa.ChunkedArray":
    """Return a mask of the rows whose version the corpus has, but not as the current one."""
    import pyarrow.compute as pc

    is_other = pc.not_equal(rows["row_version"], aligned_current["row_version"])
    return pc.fill_null(pc.and_(is_other, pc.is_in(rows["row_version"], value_set=past_rows["row_version"])), False)


def _keep_from_same_source(
    rows: "pa.Table", aligned_current: "pa.Table", is_older: "pa.ChunkedArray"
) -> "pa.ChunkedArray":
    """Return a mask of the older versions in the source that gave the current one and no longer holds it."""
    import pyarrow.compute as pc

    is_same_source = pc.fill_null(
        pc.equal(_strip_table_versions(rows["source"]), _strip_table_versions(aligned_current["source"])), False
    )
    is_current = pc.fill_null(pc.equal(rows["row_version"], aligned_current["row_version"]), False)
    has_current = pc.is_in(rows["row_key"], value_set=rows["row_key"].filter(pc.and_(is_same_source, is_current)))
    is_elsewhere = pc.and_(is_older, pc.invert(is_same_source))
    is_behind = pc.fill_null(pc.less(rows["timestamp"], aligned_current["timestamp"]), False)
    count = pc.sum(pc.and_(is_elsewhere, pc.invert(is_behind))).as_py()
    if count:
        logger.warning(
            "%d rows hold older content that another source has corrected; the corrections are kept. If the older "
            "content is right again, give the rows a newer timestamp or write them into the newest file",
            count,
        )
    return pc.and_(pc.and_(is_older, is_same_source), pc.invert(has_current))


def strip_table_version(uri: str) -> str:
    """Return the name of a source without the version of a Delta table."""
    return re.sub(TABLE_VERSION, r"\1", uri)


def _strip_table_versions(uris: "pa.ChunkedArray") -> "pa.ChunkedArray":
    import pyarrow.compute as pc

    return pc.replace_substring_regex(uris, TABLE_VERSION, r"\1")
