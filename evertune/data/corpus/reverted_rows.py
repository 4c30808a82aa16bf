"""With an id: versions that stood in the corpus before and come back, such as a label that is corrected back."""

import logging
import re
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.corpus.read import history, newest
from evertune.data.row_versions import has_id, renumbered
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_VERSION = r"^(delta:.*)@v\d+$"  # a Delta table at another version is the same source
PAST = ("row_key", "row_version", "batch", "timestamp", "position", "occurrence", "source")
logger = logging.getLogger(__name__)


def with_returns(read: "pa.Table", recipe: Recipe, home: Home, *, by_hand: bool = False) -> "pa.Table":
    """The rows, those that come back under a version of its own: numbered by the versions that their key has had.

    A superseded version comes back where the source that gave the current one now holds it instead. Another source may
    only be older, so it brings nothing back; that is warned of.

    Args:
        read: rows from `rows.keyed`.
        by_hand: a person gave the rows, so all that are superseded come back.
    """
    import pyarrow.compute as pc

    if not has_id(recipe) or not len(read):
        return read
    past = history(home, PAST, read["row_key"])
    if not len(past):
        return read
    current = newest(past)
    now = current.take(pc.index_in(read["row_key"], value_set=current["row_key"]))
    read = _under_current_version(read, now, recipe)
    back = _superseded(read, now, past)
    if not by_hand:
        back = _from_its_source(read, now, back)
    counts = pc.value_counts(past["row_key"])
    place = pc.index_in(read["row_key"], value_set=counts.field("values"))
    return _renumbered(read, back, counts.field("counts").take(place), recipe)


def _under_current_version(read: "pa.Table", now: "pa.Table", recipe: Recipe) -> "pa.Table":
    """A row with the content of a current version that itself came back is that version, not an older one."""
    import pyarrow.compute as pc

    came_back = pc.fill_null(pc.greater(now["occurrence"], 0), False)
    if not pc.any(came_back).as_py():
        return read
    numbered = _renumbered(read, came_back, now["occurrence"], recipe)
    same = pc.fill_null(pc.equal(numbered["row_version"], now["row_version"]), False)
    return _renumbered(read, same, now["occurrence"], recipe)


def _renumbered(read: "pa.Table", chosen: Any, numbers: Any, recipe: Recipe) -> "pa.Table":
    """The chosen rows with this occurrence number and the version that follows from it."""
    import numpy as np

    places = np.flatnonzero(chosen)
    return renumbered(read, places, numbers.take(places), recipe)


def _superseded(read: "pa.Table", now: "pa.Table", past: "pa.Table") -> Any:
    import pyarrow.compute as pc

    other = pc.not_equal(read["row_version"], now["row_version"])
    return pc.fill_null(pc.and_(other, pc.is_in(read["row_version"], value_set=past["row_version"])), False)


def _from_its_source(read: "pa.Table", now: "pa.Table", older: Any) -> Any:
    """Of the older versions those that stand, without the current one, in the source that gave it."""
    import pyarrow.compute as pc

    same = pc.fill_null(pc.equal(_places(read["source"]), _places(now["source"])), False)
    current = pc.fill_null(pc.equal(read["row_version"], now["row_version"]), False)
    held = pc.is_in(read["row_key"], value_set=read["row_key"].filter(pc.and_(same, current)))
    elsewhere = pc.and_(older, pc.invert(same))
    behind = pc.fill_null(pc.less(read["timestamp"], now["timestamp"]), False)
    if count := pc.sum(pc.and_(elsewhere, pc.invert(behind))).as_py():
        logger.warning(
            "%d rows are read as they were before another source corrected them, and the corrections stay; where the "
            "older content is right again, give the row a newer timestamp or write it into the newest file",
            count,
        )
    return pc.and_(pc.and_(older, same), pc.invert(held))


def place(uri: str) -> str:
    """What a source is called whatever version of a Delta table it is."""
    return re.sub(TABLE_VERSION, r"\1", uri)


def _places(uris: Any) -> Any:
    import pyarrow.compute as pc

    return pc.replace_substring_regex(uris, TABLE_VERSION, r"\1")
