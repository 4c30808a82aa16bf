"""The recipe's rows that were accepted, and their twin, the quarantine: taken in exactly once, read at any version.

A batch passes atomic steps, and each can be done again: staged file, log of the verdict, a commit in each of the
two Delta tables, `state.json`. See `docs/decisions/2026-11-22-rows.md`.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.corpus import delta_tables, fixed, staging
from evertune.corpus.returns import with_returns
from evertune.corpus.view import (
    LABELLED,
    committed,
    history,
    inputs,
    known_inputs,
    known_labels,
    last_number,
    newest_version,
    rows,
    snapshot,
)
from evertune.errors import DataError
from evertune.home import Home, read_json, write_json
from evertune.records import Batch, digest
from evertune.rows import keyed, own_columns, roles, schema

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.sources import Piece

__all__ = [
    "commit",
    "committed",
    "history",
    "ingest",
    "inputs",
    "known_inputs",
    "known_labels",
    "last_number",
    "newest_version",
    "rows",
    "set_aside",
    "snapshot",
    "with_returns",
]

PART_ROWS = 20_000  # accepted rows of a batch that are tokenised, and kept, together
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
        if batch := _waiting(recipe, home):
            return batch
    state = read_json(home.state) or {}
    fixed.check_roles(recipe, home, state)
    read = list(pieces(dict(state.get("sources", {}))))
    fixed.check_splits(home, state, read)
    tables = [keyed(piece.table, recipe) for piece in read]
    with home.lock("corpus"):
        # another process may have staged or committed while this one was reading
        return _waiting(recipe, home) or _stage(recipe, home, tables, read)


def commit(batch: Batch, accepted: "pa.Table", refused: "pa.Table", home: Home) -> None:
    """Add a judged batch to the corpus and the quarantine, once, whatever crashes and however often it is called.

    A release (a batch without a staged file) leaves the rows of a stopped batch that it does not settle where they are.

    Args:
        accepted: rows with their split, from `splits.assign`.
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
            left = _left_of_stopped(home, [accepted, refused])
        staging.write_log(home, batch, _numbered(accepted, batch.number), _listed(refused, left, batch.number))
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
        left = _left_of_stopped(home, [staging.load(batch)])
        staging.write_stopped(home, _listed(refused, left, batch.number))
        staging.forget_staged(home)


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


def _stage(recipe: Recipe, home: Home, tables: "list[pa.Table]", pieces: "list[Piece]") -> Batch:
    number = last_number(home) + 1
    read = sum(table.num_rows for table in tables)
    sources = {piece.uri: piece.fingerprint for piece in pieces}
    notes = {"sources": sources, "roles": roles(recipe), "splits": fixed.given_splits(pieces)}
    fresh = _fresh(tables, recipe, home)
    if fresh is None:
        _remember(home, notes)
        return Batch(number=number - 1, path=None, fingerprint=digest([]), rows=0, read=read, sources=sources)
    return staging.stage(fresh, home, number, {**notes, "read": read, "shape": _shape(recipe)})


def _fresh(tables: "list[pa.Table]", recipe: Recipe, home: Home) -> "pa.Table | None":
    """Rows whose version is new or comes back, each version once, numbered by position."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not tables:
        return None
    table = with_returns(pa.concat_tables(tables), recipe, home)
    for path in (home.corpus, home.quarantine):
        if len(table) and delta_tables.last_batch(path):
            seen = delta_tables.read(path, ["row_version"])["row_version"]
            table = table.filter(pc.invert(pc.is_in(table["row_version"], value_set=seen)))
    if not len(table):
        return None
    codes = np.asarray(table["row_version"].combine_chunks().dictionary_encode().indices)
    table = table.take(np.sort(np.unique(codes, return_index=True)[1]))
    return table.append_column("position", pa.array(np.arange(len(table))))


def _staged_path(home: Home) -> str | None:
    found = staging.waiting(home)
    return None if found is None else found[0].path


def _complete(home: Home) -> None:
    """Bring a commit that was begun to its end; without one, do nothing. Every line can be repeated."""
    if (begun := staging.read_log(home)) is None:
        return
    number, path, accepted, refused = begun
    staged = staging.waiting(home)
    delta_tables.append_once(home.corpus, accepted, number)
    delta_tables.append_once(home.quarantine, refused, number)
    _add_labels(home, accepted)
    _note(home, batch=number)
    if staged is not None and staged[0].path == path:
        _remember(home, staged[1])
        staging.forget_staged(home)
    _settle_stopped(home, released=path is None)
    staging.forget_log(home)


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


def _add_labels(home: Home, accepted: "pa.Table") -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = known_labels(home)
    used = accepted.filter(pc.is_in(accepted["split"], value_set=pa.array(LABELLED)))
    _given, *targets = own_columns(accepted.column_names)
    values = [pc.list_flatten(used[name]) if pa.types.is_list(used[name].type) else used[name] for name in targets]
    if new := sorted({label for value in values for label in pc.unique(value).to_pylist()} - set(known)):
        write_json(home.model / "labels.json", [*known, *new])


def _remember(home: Home, notes: dict[str, Any]) -> None:
    state = read_json(home.state) or {}
    grown = {name: {**state.get(name, {}), **notes[name]} for name in ("sources", "splits")}
    _note(home, **grown, roles=notes["roles"])


def _note(home: Home, **facts: Any) -> None:
    with home.lock("state"):
        write_json(home.state, {**(read_json(home.state) or {}), **facts})


def _numbered(accepted: "pa.Table", number: int) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    size = len(accepted)
    part = pc.divide(accepted["position"], PART_ROWS)
    return accepted.append_column("batch", pa.array([number] * size, pa.int64())).append_column("part", part)


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


def _left_of_stopped(home: Home, judged: "list[pa.Table]") -> "pa.Table | None":
    """Stopped rows that the batch does not hold: their source changed, and they must not be lost."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if (stopped := staging.read_stopped(home)) is None:
        return None
    seen = pa.chunked_array([chunk for table in judged for chunk in table["row_version"].chunks], pa.string())
    if delta_tables.last_batch(home.quarantine):
        known = delta_tables.read(home.quarantine, ["row_version"])["row_version"]
        seen = pa.chunked_array([*seen.chunks, *known.chunks], pa.string())
    return stopped.filter(pc.invert(pc.is_in(stopped["row_version"], value_set=seen)))


def _shape(recipe: Recipe) -> str:
    """Digest of what decides which rows the sources give, and in which columns."""
    return digest(recipe.objective.type, recipe.data.sources, recipe.data.columns, recipe.folder, schema(recipe).names)
