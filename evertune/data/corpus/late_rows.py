"""Rows that are older than those that came before them: a timestamp that goes backwards."""

from datetime import datetime
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.columns.chunks import Rows
from evertune.data.corpus.read import history, newest_moment
from evertune.data.row_versions import has_id, roles
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa


def late(accepted: Rows, recipe: Recipe, home: Home) -> list[str]:
    """What a person should know of rows with a timestamp before the newest that the corpus had.

    Args:
        accepted: rows of a batch that is not yet committed.
    """
    newest = newest_moment(home)
    if newest is None or "timestamp" not in roles(recipe):
        return []
    older, rows = _before(accepted, newest)
    if not len(older):
        return []
    column = recipe.column("timestamp")
    found = [
        f"{column}: {len(older):,} of {rows:,} rows are older than the newest row before, of {newest:%Y-%m-%d %H:%M}; "
        "they count as fresh, by when they came; a backtest takes them for known at their own time"
    ]
    if has_id(recipe) and (again := _replacing(older, home)):
        found.append(
            f"{column}: {again:,} of these have an id whose row in the corpus is newer; they replace it, what comes "
            "last counts. If an old export was read by mistake, mend its rows and run again"
        )
    return found


def _before(accepted: Rows, newest: datetime) -> "tuple[pa.Table, int]":
    """The rows that are older, and how many there are in all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts, rows = [], 0
    for part in accepted(["row_key", "timestamp"]):
        parts.append(part.filter(pc.fill_null(pc.less(part["timestamp"], pa.scalar(newest)), False)))
        rows += len(part)
    return pa.concat_tables(parts), rows


def _replacing(older: "pa.Table", home: Home) -> int:
    """How many of the rows stand in the corpus with a newer timestamp."""
    import pyarrow.compute as pc

    known = history(home, ["row_key", "timestamp"], older["row_key"].combine_chunks())
    known = known.group_by("row_key").aggregate([("timestamp", "max")])
    both = older.join(known, "row_key", join_type="inner")
    return int(pc.sum(pc.less(both["timestamp"], both["timestamp_max"])).as_py() or 0)
