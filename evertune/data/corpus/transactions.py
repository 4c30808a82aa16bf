"""The recipe's rows that were accepted, and their twin, the quarantine: taken in exactly once, read at any version.

A batch passes atomic steps, and each can be done again: staged file, log of the verdict, a commit in each of the
two Delta tables, `state.json`. See `docs/decisions/2026-11-22-rows.md`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.columns.chunks import Rows, of_table
from evertune.data.corpus import delta_tables, removal, staging
from evertune.data.corpus import invariants as fixed
from evertune.data.corpus import label_counts as labels
from evertune.data.corpus.first_seen import first_batches
from evertune.data.corpus.fresh_rows import Reading
from evertune.data.corpus.late_rows import late
from evertune.data.corpus.parquet_chunks import PartsFile, rows_of
from evertune.data.corpus.read import (
    batch_of,
    committed,
    contents,
    history,
    inputs,
    known_inputs,
    known_labels,
    known_rows,
    label_counts,
    last_number,
    newest_version,
    rows,
    snapshot,
)
from evertune.data.corpus.reverted_rows import with_returns
from evertune.data.row_versions import roles, schema
from evertune.errors import DataError
from evertune.records import Batch, digest
from evertune.runtime.files import read_json, sweep, write_json
from evertune.runtime.home import Home
from evertune.runtime.threads import give_back

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.data.sources.read import Piece

__all__ = [
    "PartsFile",
    "batch_of",
    "commit",
    "committed",
    "contents",
    "everywhere",
    "finish",
    "first_batches",
    "history",
    "ingest",
    "inputs",
    "known_inputs",
    "known_labels",
    "known_rows",
    "label_counts",
    "last_number",
    "late",
    "newest_version",
    "remove",
    "rows",
    "set_aside",
    "snapshot",
    "with_returns",
]

logger = logging.getLogger(__name__)


def ingest(recipe: Recipe, home: Home, pieces: "Callable[[dict[str, str]], Iterable[Piece]]") -> Batch:
    """Stage the rows that neither the corpus nor the quarantine has; a batch that still waits is taken up first.

    Args:
        pieces: reads the sources whose fingerprints are not those that it is given.
    Raises:
        ConfigError: the roles, or a source's split, are not those that the corpus was made with.
        DataError: a row cannot be read, or the batch cannot be written.
    """
    with home.lock("corpus"):
        _complete(home)
        for folder in (home.batches, home.corpus, home.quarantine):
            sweep(folder, ".*.parquet")
        if batch := _waiting(recipe, home):
            return batch
    state = read_json(home.state) or {}
    fixed.check_roles(recipe, home, state)
    reading = Reading(recipe, home)
    try:
        reading.take(pieces(dict(state.get("sources", {}))))
        if reading.forgotten:
            logger.info("%d rows of the sources are left out: they were forgotten", reading.forgotten)
        fixed.check_splits(home, state, reading.splits)
        with home.lock("corpus"):
            # another process may have staged or committed while this one was reading
            return _waiting(recipe, home) or _stage(recipe, home, reading)
    finally:
        reading.drop()
        del reading
        give_back()  # the batch is judged by another process, which needs it


def commit(batch: Batch, accepted: PartsFile, dealt: "pa.Table", refused: "pa.Table", home: Home) -> None:
    """Add a judged batch to the corpus and the quarantine, once, whatever crashes and however often it is called.

    A release (a batch without a staged file) leaves the rows of a stopped batch that it does not settle where they are.

    Args:
        accepted: rows from `splits.signed`; dealt: their columns from `splits.dealt`.
        refused: rows with `reasons` and `kinds`.
    Raises:
        DataError: the staged batch was replaced by another one, or a table cannot be written.
    """
    with home.lock("corpus"):
        _complete(home)
        if committed(batch, home) and batch.path is not None:
            return
        if committed(batch, home) or batch.path != _staged_path(home):
            raise DataError(f"batch {batch.number} was judged while another run replaced what is staged; run again")
        if batch.path is None:
            refused, left = _put_back(refused, home, batch.number), None
        else:
            accepted.close()
            left = _left_of_stopped(home, [rows_of(accepted.path), of_table(refused)])
        staging.write_log(home, batch, accepted, dealt, _listed(refused, left, batch.number))
        del dealt
        _complete(home)
        give_back()


def finish(home: Home) -> None:
    """Bring a commit that a killed process had begun to its end, if there is one."""
    with home.lock("corpus"):
        _complete(home)


def set_aside(batch: Batch, refused: "pa.Table", home: Home) -> None:
    """Keep a stopped batch's refused rows for `evertune quarantine` and take nothing in: the next run reads all again.

    Args:
        refused: rows with `reasons` and `kinds`.
    Raises:
        DataError: the disk is full.
    """
    with home.lock("corpus"):
        if batch.path is None or batch.path != _staged_path(home):
            return
        left = _left_of_stopped(home, [staging.load(batch)[0]])
        staging.write_stopped(home, _listed(refused, left, batch.number))
        staging.forget_staged(home)


def everywhere(home: Home) -> "Iterator[tuple[str, pa.Table]]":
    """Every row that is kept, in parts, each with where it stands: `corpus`, `quarantine` or `batches`."""
    with home.lock("corpus"):
        _complete(home)
        yield from removal.everywhere(home)


def remove(home: Home, doomed: removal.Doomed) -> None:
    """Take rows out of corpus, quarantine and batches, and out of their past; safe to repeat.

    Raises:
        DataError: a file cannot be written.
    """
    with home.lock("corpus"):
        _complete(home)
        staging.forget_log(home)  # the half of one that a crash left
        removal.remove(home, doomed)


def _waiting(recipe: Recipe, home: Home) -> Batch | None:
    """A staged batch that is still to be judged; one that another mapping made is thrown away and read again."""
    if (found := staging.waiting(home)) is None:
        return None
    batch, notes = found
    if notes["shape"] == _shape(recipe):
        logger.info(
            "batch %d with %d rows was staged by a run that did not end; it is taken up again", batch.number, batch.rows
        )
        return batch
    logger.info(
        "batch %d was staged for another data section, or by another Evertune; its sources are read again", batch.number
    )
    staging.forget_staged(home)
    return None


def _stage(recipe: Recipe, home: Home, reading: Reading) -> Batch:
    number, sources = last_number(home) + 1, reading.sources
    notes: dict[str, Any] = {"sources": sources, "roles": roles(recipe), "splits": reading.splits}
    fresh = reading.fresh()
    if fresh is None:
        _remember(home, notes)
        return Batch(number - 1, None, digest([]), rows=0, read=reading.rows, sources=sources)
    notes |= {"number": number, "read": reading.rows, "shape": _shape(recipe)}
    return staging.stage(fresh, home, reading.fingerprint(), notes)


def _staged_path(home: Home) -> str | None:
    found = staging.waiting(home)
    return None if found is None else found[0].path


def _complete(home: Home) -> None:
    """Bring a commit that was begun to its end. Every line can be repeated."""
    if (begun := staging.read_log(home)) is None:
        staging.forget_log(home)  # parts of one that was killed before it had its last part, or after that was gone
        return
    staged, number = staging.waiting(home), begun.number
    delta_tables.append_once(
        home.corpus, staging.numbered(begun.corpus, number), [*begun.names, "batch", "part"], number
    )
    delta_tables.append_once(home.quarantine, of_table(begun.quarantine), begun.quarantine.column_names, number)
    labels.add(home, begun)
    _note(home, batch=number)
    if staged is not None and staged[0].path == begun.path:
        _remember(home, staged[1])
        staging.forget_staged(home)
    _settle_stopped(home, released=begun.path is None)
    staging.forget_log(home)
    for table in (home.corpus, home.quarantine):
        delta_tables.compact(table)


def _settle_stopped(home: Home, *, released: bool) -> None:
    """A judged batch has given every stopped row its place; after a release the others still wait for one."""
    left = _left_of_stopped(home, []) if released else None
    if left is None or not len(left):
        staging.forget_stopped(home)
    else:
        staging.write_stopped(home, left)


def _put_back(refused: "pa.Table", home: Home, number: int) -> "pa.Table":
    """What a release refuses anew, without rows of a stopped batch: these go back to it, as mended."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if (stopped := staging.read_stopped(home)) is None:
        return refused
    inside = pc.is_in(refused["row_version"], value_set=stopped["row_version"])
    back = pc.and_(inside, pc.equal(refused["status"], "refused"))
    again = _listed(refused.filter(back), None, number).select(stopped.column_names)
    others = stopped.filter(pc.invert(pc.is_in(stopped["row_version"], value_set=again["row_version"])))
    staging.write_stopped(home, pa.concat_tables([others, again]))
    return refused.filter(pc.invert(back))


def _remember(home: Home, notes: dict[str, Any]) -> None:
    state = read_json(home.state) or {}
    grown = {name: {**state.get(name, {}), **notes[name]} for name in ("sources", "splits")}
    _note(home, **grown, roles=notes["roles"])


def _note(home: Home, **facts: Any) -> None:
    with home.lock("state"):
        write_json(home.state, {**(read_json(home.state) or {}), **facts})


def _listed(refused: "pa.Table", left: "pa.Table | None", number: int) -> "pa.Table":
    """Refused rows in the quarantine's columns, with those that an earlier, stopped batch left behind."""
    import pyarrow as pa

    size = len(refused)
    for name, kind, value in (("batch", pa.int64(), number), ("status", pa.string(), "refused")):
        if name not in refused.column_names:
            refused = refused.append_column(name, pa.array([value] * size, kind))
    if left is None:
        return refused
    for name, kind, value in (("batch", pa.int64(), number), ("status", pa.string(), "stopped")):
        left = left.set_column(left.column_names.index(name), name, pa.array([value] * len(left), kind))
    return pa.concat_tables([refused, left.select(refused.column_names)])


def _left_of_stopped(home: Home, judged: list[Rows]) -> "pa.Table | None":
    """Stopped rows that the batch does not hold: their source changed, and they must not be lost."""
    import pyarrow.compute as pc

    if (left := staging.read_stopped(home)) is None:
        return None
    for read in [*judged, delta_tables.rows_of(home.quarantine)]:
        for part in read(["row_version"]):
            left = left.filter(pc.invert(pc.is_in(left["row_version"], value_set=part["row_version"])))
    return left


def _shape(recipe: Recipe) -> str:
    """Digest of what decides which rows the sources give, and in which columns."""
    return digest(recipe.objective.type, recipe.data.sources, recipe.data.columns, recipe.folder, schema(recipe).names)
