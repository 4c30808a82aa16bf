"""With an id: versions that stood in the corpus before and come back, such as a label that is corrected back."""

import logging
import re
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.corpus.read import read_history, select_newest
from evertune.data.row_versions import has_id, renumber_rows
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_VERSION = r"^(delta:.*)@v\d+$"  # a Delta table at another version is the same source
PAST = ("row_key", "row_version", "batch", "timestamp", "position", "occurrence", "source")
logger = logging.getLogger(__name__)


def number_returning_rows(rows: "pa.Table", recipe: Recipe, home: Home, *, by_hand: bool = False) -> "pa.Table":
    """The rows, those that come back under a version of its own: numbered by the versions that their key has had.

    A superseded version comes back where the source that gave the current one now holds it instead. Another source may
    only be older, so it brings nothing back; that is warned of.

    Args:
        read: rows from `rows.keyed`.
        by_hand: a person gave the rows, so all that are superseded come back.
    """
    import pyarrow.compute as pc

    if not has_id(recipe) or not len(rows):
        return rows
    past_rows = read_history(home, PAST, rows["row_key"])
    if not len(past_rows):
        return rows
    current_rows = select_newest(past_rows)
    aligned_current = current_rows.take(pc.index_in(rows["row_key"], value_set=current_rows["row_key"]))
    rows = _adopt_current_version(rows, aligned_current, recipe)
    is_returning = _find_superseded(rows, aligned_current, past_rows)
    if not by_hand:
        is_returning = _keep_from_same_source(rows, aligned_current, is_returning)
    version_counts = pc.value_counts(past_rows["row_key"])
    indices = pc.index_in(rows["row_key"], value_set=version_counts.field("values"))
    return _renumber_rows(rows, is_returning, version_counts.field("counts").take(indices), recipe)


def _adopt_current_version(rows: "pa.Table", aligned_current: "pa.Table", recipe: Recipe) -> "pa.Table":
    """A row with the content of a current version that itself came back is that version, not an older one."""
    import pyarrow.compute as pc

    has_returned = pc.fill_null(pc.greater(aligned_current["occurrence"], 0), False)
    if not pc.any(has_returned).as_py():
        return rows
    numbered_rows = _renumber_rows(rows, has_returned, aligned_current["occurrence"], recipe)
    is_same = pc.fill_null(pc.equal(numbered_rows["row_version"], aligned_current["row_version"]), False)
    return _renumber_rows(rows, is_same, aligned_current["occurrence"], recipe)


def _renumber_rows(rows: "pa.Table", is_chosen: Any, numbers: Any, recipe: Recipe) -> "pa.Table":
    """The chosen rows with this occurrence number and the version that follows from it."""
    import numpy as np

    indices = np.flatnonzero(is_chosen)
    return renumber_rows(rows, indices, numbers.take(indices), recipe)


def _find_superseded(rows: "pa.Table", aligned_current: "pa.Table", past_rows: "pa.Table") -> Any:
    import pyarrow.compute as pc

    is_other = pc.not_equal(rows["row_version"], aligned_current["row_version"])
    return pc.fill_null(pc.and_(is_other, pc.is_in(rows["row_version"], value_set=past_rows["row_version"])), False)


def _keep_from_same_source(rows: "pa.Table", aligned_current: "pa.Table", is_older: Any) -> Any:
    """Of the older versions those that stand, without the current one, in the source that gave it."""
    import pyarrow.compute as pc

    is_same_source = pc.fill_null(
        pc.equal(_strip_table_versions(rows["source"]), _strip_table_versions(aligned_current["source"])), False
    )
    is_current = pc.fill_null(pc.equal(rows["row_version"], aligned_current["row_version"]), False)
    has_current = pc.is_in(rows["row_key"], value_set=rows["row_key"].filter(pc.and_(is_same_source, is_current)))
    is_elsewhere = pc.and_(is_older, pc.invert(is_same_source))
    is_behind = pc.fill_null(pc.less(rows["timestamp"], aligned_current["timestamp"]), False)
    if count := pc.sum(pc.and_(is_elsewhere, pc.invert(is_behind))).as_py():
        logger.warning(
            "%d rows are read as they were before another source corrected them, and the corrections stay; where the "
            "older content is right again, give the row a newer timestamp or write it into the newest file",
            count,
        )
    return pc.and_(pc.and_(is_older, is_same_source), pc.invert(has_current))


def strip_table_version(uri: str) -> str:
    """What a source is called whatever version of a Delta table it is."""
    return re.sub(TABLE_VERSION, r"\1", uri)


def _strip_table_versions(uris: Any) -> Any:
    import pyarrow.compute as pc

    return pc.replace_substring_regex(uris, TABLE_VERSION, r"\1")
