"""Rows that are older than those that came before them: a timestamp that goes backwards."""

from datetime import datetime
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.columns.chunks import RowReader
from evertune.data.corpus.read import newest_moment, read_history
from evertune.data.row_versions import has_id, list_roles
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa


def describe_late_rows(accepted: RowReader, recipe: Recipe, home: Home) -> list[str]:
    """What a person should know of rows with a timestamp before the newest that the corpus had.

    Args:
        accepted: rows of a batch that is not yet committed.
    """
    newest = newest_moment(home)
    if newest is None or "timestamp" not in list_roles(recipe):
        return []
    older, row_count = _select_older(accepted, newest)
    if not len(older):
        return []
    column = recipe.column("timestamp")
    messages = [
        f"{column}: {len(older):,} of {row_count:,} rows are older than the newest row before, of "
        f"{newest:%Y-%m-%d %H:%M}; "
        "they count as fresh, by when they came; a backtest takes them for known at their own time"
    ]
    if has_id(recipe) and (replaced_count := _count_replacements(older, home)):
        messages.append(
            f"{column}: {replaced_count:,} of these have an id whose row in the corpus is newer; they replace it, "
            "what comes "
            "last counts. If an old export was read by mistake, mend its rows and run again"
        )
    return messages


def _select_older(accepted: RowReader, newest: datetime) -> "tuple[pa.Table, int]":
    """The rows that are older, and how many there are in all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chunks = []
    row_count = 0
    for chunk in accepted(["row_key", "timestamp"]):
        chunks.append(chunk.filter(pc.fill_null(pc.less(chunk["timestamp"], pa.scalar(newest)), False)))
        row_count += len(chunk)
    return pa.concat_tables(chunks), row_count


def _count_replacements(older: "pa.Table", home: Home) -> int:
    """How many of the rows stand in the corpus with a newer timestamp."""
    import pyarrow.compute as pc

    corpus_rows = read_history(home, ["row_key", "timestamp"], older["row_key"].combine_chunks())
    corpus_rows = corpus_rows.group_by("row_key").aggregate([("timestamp", "max")])
    joined = older.join(corpus_rows, "row_key", join_type="inner")
    return int(pc.sum(pc.less(joined["timestamp"], joined["timestamp_max"])).as_py() or 0)
