"""Ingest every row exactly once: accepted rows into the corpus, refused rows into its twin, the quarantine.

A batch goes through atomic steps, each of which can be repeated: the staged file, the log of the verdicts, a commit in
each of the two Delta tables, `state.json`. See `docs/decisions/2026-11-22-rows.md`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.columns.chunks import RowReader, make_row_reader
from evertune.data.corpus import delta_tables, removal, staging
from evertune.data.corpus.first_seen import find_first_batches
from evertune.data.corpus.fresh_rows import FreshRows
from evertune.data.corpus.label_counts import add_label_counts
from evertune.data.corpus.late_rows import describe_late_rows
from evertune.data.corpus.parquet_chunks import ChunkFile, rows_of
from evertune.data.corpus.read import (
    batch_of,
    fingerprint_contents,
    is_committed,
    known_inputs,
    known_labels,
    known_rows,
    last_number,
    load_label_counts,
    make_input_lookup,
    newest_version,
    read_history,
    read_rows,
    take_snapshot,
)
from evertune.data.corpus.reverted_rows import number_returning_rows
from evertune.data.corpus.state import CorpusState, check_roles, check_splits, load_state, update_state
from evertune.data.row_versions import build_schema, list_roles
from evertune.errors import DataError
from evertune.records import Batch, compute_digest
from evertune.runtime.context import RunContext
from evertune.runtime.files import sweep_files
from evertune.runtime.home import Home
from evertune.runtime.threads import release_memory

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.data.sources.read import Piece

__all__ = [
    "ChunkFile",
    "batch_of",
    "commit_batch",
    "describe_late_rows",
    "find_first_batches",
    "fingerprint_contents",
    "finish_commit",
    "ingest_rows",
    "is_committed",
    "iterate_all_rows",
    "known_inputs",
    "known_labels",
    "known_rows",
    "last_number",
    "load_label_counts",
    "make_input_lookup",
    "newest_version",
    "number_returning_rows",
    "read_history",
    "read_rows",
    "remove_rows",
    "set_aside",
    "take_snapshot",
]

logger = logging.getLogger(__name__)


def ingest_rows(context: RunContext, pieces: "Callable[[dict[str, str]], Iterable[Piece]]") -> Batch:
    """Stage the rows that are in neither the corpus nor the quarantine, or return the batch that is already staged.

    Args:
        pieces: takes the known fingerprints of the sources, by URI, and reads the sources with other fingerprints.
    Raises:
        ConfigError: the roles, or a source's split, differ from those that the corpus was built with.
        DataError: a row cannot be read, or the batch cannot be written.
    """
    with context.home.lock("corpus"):
        _complete_commit(context.home)
        for folder in (context.home.batches, context.home.corpus, context.home.quarantine):
            sweep_files(folder, ".*.parquet")
        if batch := _resume_staged_batch(context):
            return batch
    state = load_state(context.home)
    check_roles(context, state)
    fresh_rows = FreshRows(context.recipe, context.home)
    try:
        fresh_rows.add_pieces(pieces(dict(state.sources)))
        if fresh_rows.forgotten:
            logger.info("skipped %d source rows because they were forgotten", fresh_rows.forgotten)
        check_splits(context.home, state, fresh_rows.splits)
        with context.home.lock("corpus"):
            # Another process may have staged or committed while this one was reading.
            return _resume_staged_batch(context) or _stage_rows(context, fresh_rows)
    finally:
        fresh_rows.drop_file()
        del fresh_rows
        release_memory()  # another process checks the batch and needs it


def commit_batch(batch: Batch, accepted: ChunkFile, split_columns: "pa.Table", refused: "pa.Table", home: Home) -> None:
    """Add a checked batch to the corpus and the quarantine, once, whatever crashes and however often it is called.

    A release (a batch without a staged file) does not move the rows of a stopped batch that it does not settle.

    Args:
        accepted: rows from `assign.add_signatures`.
        split_columns: their columns from `assign.assign_splits`.
        refused: rows with `reasons` and `kinds`.
    Raises:
        DataError: the staged batch was replaced by another one, or a table cannot be written.
    """
    with home.lock("corpus"):
        _complete_commit(home)
        if is_committed(batch, home) and batch.path is not None:
            return
        if is_committed(batch, home) or batch.path != _staged_path(home):
            raise DataError(f"batch {batch.number} was replaced by another run while it was checked; run again")
        if batch.path is None:
            refused = _put_back(refused, home, batch.number)
            remaining = None
        else:
            accepted.close()
            remaining = _select_unsettled(home, [rows_of(accepted.path), make_row_reader(refused)])
        staging.write_log(home, batch, accepted, split_columns, _list_refused(refused, remaining, batch.number))
        del split_columns
        _complete_commit(home)
        release_memory()


def finish_commit(home: Home) -> None:
    """Complete the commit that a killed process had begun, if there is one."""
    with home.lock("corpus"):
        _complete_commit(home)


def set_aside(batch: Batch, refused: "pa.Table", home: Home) -> None:
    """Keep a stopped batch's refused rows for `evertune quarantine` and ingest nothing: the next run reads all again.

    Args:
        refused: rows with `reasons` and `kinds`.
    Raises:
        DataError: the disk is full.
    """
    with home.lock("corpus"):
        if batch.path is None or batch.path != _staged_path(home):
            return
        remaining = _select_unsettled(home, [staging.open_batch(batch)[0]])
        staging.write_stopped(home, _list_refused(refused, remaining, batch.number))
        staging.forget_staged(home)


def iterate_all_rows(home: Home) -> "Iterator[tuple[str, pa.Table]]":
    """Yield every stored row, in chunks, each with its location: `corpus`, `quarantine` or `batches`."""
    with home.lock("corpus"):
        _complete_commit(home)
        yield from removal.iterate_all_rows(home)


def remove_rows(home: Home, find_doomed: removal.FindDoomed) -> None:
    """Remove rows from corpus, quarantine and batches, and from their older versions; safe to repeat.

    Args:
        find_doomed: returns which rows of a table to remove, as a mask.
    Raises:
        DataError: a file cannot be written.
    """
    with home.lock("corpus"):
        _complete_commit(home)
        staging.forget_log(home)  # what a crash left of one
        removal.remove_rows(home, find_doomed)


def _resume_staged_batch(context: RunContext) -> Batch | None:
    """Return the staged batch that was not checked yet; discard one that other data settings made."""
    staged = staging.find_staged_batch(context.home)
    if staged is None:
        return None
    batch, notes = staged
    if notes["shape"] == _digest_shape(context.recipe):
        logger.info("resuming batch %d with %d rows, staged by a run that did not finish", batch.number, batch.rows)
        return batch
    logger.info(
        "batch %d was staged with other data settings or by another Evertune version; reading its sources again",
        batch.number,
    )
    staging.forget_staged(context.home)
    return None


def _stage_rows(context: RunContext, fresh_rows: FreshRows) -> Batch:
    """Stage the fresh rows; if there are none, only remember that the sources were read."""
    last = last_number(context.home)
    file = fresh_rows.keep_fresh()
    if file is None:
        _remember_sources(context.home, fresh_rows.sources, fresh_rows.splits, list_roles(context.recipe))
        return Batch(last, None, compute_digest([]), rows=0, read=fresh_rows.rows, sources=fresh_rows.sources)
    notes: staging.BatchNotes = {
        "sources": fresh_rows.sources,
        "roles": list_roles(context.recipe),
        "splits": fresh_rows.splits,
        "number": last + 1,
        "read": fresh_rows.rows,
        "shape": _digest_shape(context.recipe),
    }
    return staging.stage_batch(file, context.home, fresh_rows.compute_fingerprint(), notes)


def _staged_path(home: Home) -> str | None:
    staged = staging.find_staged_batch(home)
    return None if staged is None else staged[0].path


def _complete_commit(home: Home) -> None:
    """Complete a commit that was begun. Every line can be repeated."""
    log = staging.read_log(home)
    if log is None:
        staging.forget_log(home)  # parts of a log whose last part was not written yet, or is already removed
        return
    staged = staging.find_staged_batch(home)
    number = log.number
    delta_tables.append_once(
        home.corpus, staging.add_batch_columns(log.corpus, number), [*log.names, "batch", "part"], number
    )
    delta_tables.append_once(home.quarantine, make_row_reader(log.quarantine), log.quarantine.column_names, number)
    add_label_counts(home, log)
    update_state(home, lambda state: replace(state, batch=number))
    if staged is not None and staged[0].path == log.path:
        notes = staged[1]
        _remember_sources(home, notes["sources"], notes["splits"], notes["roles"])
        staging.forget_staged(home)
    _settle_stopped(home, released=log.path is None)
    staging.forget_log(home)
    for table in (home.corpus, home.quarantine):
        delta_tables.compact_files(table)


def _settle_stopped(home: Home, *, released: bool) -> None:
    """Drop the stopped rows: a checked batch has settled all of them, a release only those that it holds."""
    remaining = _select_unsettled(home, []) if released else None
    if remaining is None or not len(remaining):
        staging.forget_stopped(home)
    else:
        staging.write_stopped(home, remaining)


def _put_back(refused: "pa.Table", home: Home, number: int) -> "pa.Table":
    """Return the rows that a release refuses, without those of a stopped batch: these go back to it, as corrected."""
    import pyarrow as pa
    import pyarrow.compute as pc

    stopped = staging.read_stopped(home)
    if stopped is None:
        return refused
    is_stopped = pc.is_in(refused["row_version"], value_set=stopped["row_version"])
    goes_back = pc.and_(is_stopped, pc.equal(refused["status"], "refused"))
    refused_again = _list_refused(refused.filter(goes_back), None, number).select(stopped.column_names)
    other_rows = stopped.filter(pc.invert(pc.is_in(stopped["row_version"], value_set=refused_again["row_version"])))
    staging.write_stopped(home, pa.concat_tables([other_rows, refused_again]))
    return refused.filter(pc.invert(goes_back))


def _remember_sources(home: Home, sources: dict[str, str], splits: dict[str, str | None], roles: list[str]) -> None:
    """Add what was read of the sources to the state: they are not read again until their fingerprints change."""

    def add_sources(state: CorpusState) -> CorpusState:
        return replace(
            state,
            sources={**state.sources, **sources},
            splits={**state.splits, **splits},
            roles=roles,
        )

    update_state(home, add_sources)


def _list_refused(refused: "pa.Table", remaining: "pa.Table | None", number: int) -> "pa.Table":
    """Return refused rows in the quarantine's columns, with the remaining rows of an earlier, stopped batch."""
    import pyarrow as pa

    for name, value in (("batch", pa.scalar(number, pa.int64())), ("status", pa.scalar("refused"))):
        if name not in refused.column_names:
            refused = refused.append_column(name, pa.repeat(value, len(refused)))
    if remaining is None:
        return refused
    for name, value in (("batch", pa.scalar(number, pa.int64())), ("status", pa.scalar("stopped"))):
        index = remaining.column_names.index(name)
        remaining = remaining.set_column(index, name, pa.repeat(value, len(remaining)))
    return pa.concat_tables([refused, remaining.select(refused.column_names)])


def _select_unsettled(home: Home, batch_readers: list[RowReader]) -> "pa.Table | None":
    """Return the stopped rows that the batch does not hold: their source changed, and they must not be lost."""
    import pyarrow.compute as pc

    remaining = staging.read_stopped(home)
    if remaining is None:
        return None
    for read_chunks in [*batch_readers, delta_tables.rows_of(home.quarantine)]:
        for chunk in read_chunks(["row_version"]):
            remaining = remaining.filter(pc.invert(pc.is_in(remaining["row_version"], value_set=chunk["row_version"])))
    return remaining


def _digest_shape(recipe: Recipe) -> str:
    """Return a digest of the settings that decide which rows the sources give, and in which columns."""
    return compute_digest(
        recipe.objective.type, recipe.data.sources, recipe.data.columns, recipe.folder, build_schema(recipe).names
    )
