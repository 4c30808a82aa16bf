"""Warn of rows whose timestamp is older than the newest one that the corpus already has."""

from datetime import datetime
from typing import TYPE_CHECKING

from evertune.data.columns.chunks import RowReader
from evertune.data.corpus.read import newest_moment, read_history
from evertune.data.row_versions import has_id, list_roles
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa


def describe_late_rows(accepted: RowReader, context: RunContext) -> list[str]:
    """Return warnings about rows with a timestamp before the newest one that the corpus already has.

    Args:
        accepted: rows of a batch that is not yet committed.
    """
    newest = newest_moment(context.home)
    if newest is None or "timestamp" not in list_roles(context.recipe):
        return []
    older, row_count = _select_older(accepted, newest)
    if not len(older):
        return []
    column = context.recipe.column("timestamp")
    messages = [
        f"{column}: {len(older):,} of {row_count:,} rows are older than the newest earlier row "
        f"({newest:%Y-%m-%d %H:%M}). They count as fresh because they arrived now; a backtest uses their own timestamps"
    ]
    replaced_count = _count_replacements(older, context.home) if has_id(context.recipe) else 0
    if replaced_count:
        messages.append(
            f"{column}: {replaced_count:,} of these replace a newer row with the same id, because the version that "
            "arrives last counts. If an old export was read by mistake, correct its rows and run again"
        )
    return messages


def _select_older(accepted: RowReader, newest: datetime) -> "tuple[pa.Table, int]":
    """Return the rows that are older than `newest`, and the number of all rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chunks = []
    row_count = 0
    for chunk in accepted(["row_key", "timestamp"]):
        chunks.append(chunk.filter(pc.fill_null(pc.less(chunk["timestamp"], pa.scalar(newest)), False)))
        row_count += len(chunk)
    return pa.concat_tables(chunks), row_count


def _count_replacements(older: "pa.Table", home: Home) -> int:
    """Return how many of the rows have a newer version in the corpus."""
    import pyarrow.compute as pc

    corpus_rows = read_history(home, ["row_key", "timestamp"], older["row_key"].combine_chunks())
    corpus_rows = corpus_rows.group_by("row_key").aggregate([("timestamp", "max")])
    joined = older.join(corpus_rows, "row_key", join_type="inner")
    return int(pc.sum(pc.less(joined["timestamp"], joined["timestamp_max"])).as_py() or 0)
