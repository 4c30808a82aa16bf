"""List refused rows with their reasons, export them to be mended, judge them again and release them."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from evertune.data import admission
from evertune.data.contract import judge
from evertune.data.corpus import delta_tables, staging, tombstones, transactions
from evertune.data.quarantine.files import read_mended, write_listing
from evertune.data.row_versions import add_keys
from evertune.errors import DataError
from evertune.records import Batch, compute_digest
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Release", "export_refused", "list_refused", "read_mended", "release_file", "release_rows"]

WAIT = 5.0  # seconds to wait for a run in progress
BEFORE_ALL = (-1, float("-inf"))  # sorts before the batch and moment of every row


@dataclass(frozen=True)
class Release:
    """The result of judging refused rows again.

    Args:
        batch: number of the batch that they were committed as; None where nothing changed.
        released: rows that are now in the corpus.
        known: those of the released rows whose content was already there.
        kept: rows that stay in the quarantine.
        reasons: kind of reason -> number of the kept rows that it applies to.
    """

    batch: int | None
    released: int
    known: int
    kept: int
    reasons: dict[str, int]


class _KeyedRow(TypedDict):
    """A row of the corpus or the quarantine: what it is compared by."""

    row_key: str
    batch: int
    timestamp: datetime | None


def list_refused(home: Home) -> "pa.Table":
    """Return the refused rows that are not released, with `reasons`, `kinds`, `batch`, `status` and origin.

    A row whose key was accepted later is not listed: its source has mended it. `status` is `stopped` for rows of a
    batch that was stopped as a whole. The origin is `source` and `source_row`.

    Raises:
        DataError: nothing has been ingested yet.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    stopped = staging.read_stopped(home)
    tables = [delta_tables.read_rows(home.quarantine)] if delta_tables.last_batch(home.quarantine) else []
    if stopped is not None:
        status = stopped.column_names.index("status")
        tables.append(stopped.set_column(status, "status", pa.array(["stopped"] * len(stopped), pa.string())))
    if not tables:
        raise DataError(f"{home.name} has ingested no rows yet; run `evertune run` with the recipe first")
    rows = _keep_newest(pa.concat_tables(tables, promote_options="default"))
    rows = _drop_superseded(rows.filter(pc.not_equal(rows["status"], "released")), home)
    return rows.sort_by([("batch", "ascending"), ("source", "ascending"), ("source_row", "ascending")])


def export_refused(home: Home, path: Path) -> int:
    """Write the refused rows to a file to be mended, as JSON Lines or CSV; returns their number.

    Raises:
        DataError: nothing has been ingested yet, or `path` cannot be written.
    """
    rows = list_refused(home)
    write_listing(rows, path)
    return len(rows)


def release_rows(context: RunContext, mended_rows: "pa.Table | None" = None) -> Release:
    """Judge refused rows again by the current contract; those that pass enter the corpus as a batch of their own.

    The others stay in the quarantine, as mended, with their new reasons.

    Args:
        mended_rows: `row_version` of the rows to release and the values of their roles, from `files.read_mended`.
            Default: all refused rows as they are.
    Raises:
        DataError: nothing has been ingested yet, a staged batch waits, or `mended_rows` does not fit the quarantine.
    """
    transactions.finish_commit(context.home)  # else rows of a release that was killed would be judged twice
    if staging.find_staged_batch(context.home) is not None:
        raise DataError(
            f"a batch of {context.home.name} is staged but not judged yet; run `evertune run` with the recipe first"
        )
    if not transactions.known_labels(context.home):
        raise DataError(
            f"{context.home.name} has no accepted rows to compare with; run `evertune run` with the recipe first"
        )
    refused_rows = list_refused(context.home)
    refused_rows = refused_rows.append_column("problem", _collect_problems(refused_rows))
    chosen_rows = refused_rows if mended_rows is None else _apply_edits(refused_rows, mended_rows)
    if not len(chosen_rows):
        return Release(batch=None, released=0, known=0, kept=0, reasons={})
    rekeyed_rows = _rekey_rows(chosen_rows, context)
    forgotten_count = int(tombstones.load_tombstones(context.home).find_forgotten(rekeyed_rows).sum())
    if forgotten_count:
        raise DataError(
            f"{forgotten_count:,} of the mended rows were forgotten (`evertune forget`); remove them from the file"
        )
    known_inputs = transactions.known_inputs(context)
    verdicts = judge.check_rows(rekeyed_rows, context.recipe, transactions.known_labels(context.home), known_inputs)
    return _commit_release(context, verdicts, keep_edits=mended_rows is not None)


def release_file(context: RunContext, path: Path | None) -> Release:
    """Release the rows of a mended file, or all refused rows as they are.

    Args:
        path: the mended file; None for all refused rows.
    Raises:
        DataError: as for `release_rows` and `read_mended`.
        RegistryError: a run is in progress, or rows are being forgotten.
    """
    with context.home.lock("run", timeout=WAIT):
        return release_rows(context, None if path is None else read_mended(path, context.recipe))


def _commit_release(context: RunContext, verdicts: judge.Verdicts, keep_edits: bool) -> Release:
    """Commit one batch: new rows to the corpus; releases, and edits of rows that stay, to the quarantine."""
    accepted_rows = verdicts.accepted
    refused_rows = verdicts.refused
    number = transactions.last_number(context.home) + 1
    if not len(accepted_rows) and not keep_edits:
        return Release(batch=None, released=0, known=0, kept=len(refused_rows), reasons=verdicts.reasons)
    new_rows = _drop_known_rows(accepted_rows, context.home)
    events = _build_events(accepted_rows, refused_rows)
    batch = Batch(
        number=number,
        path=None,
        fingerprint=compute_digest(sorted(accepted_rows["named"].to_pylist())),
        rows=len(accepted_rows),
        read=len(accepted_rows) + len(refused_rows),
    )
    admission.commit_release(batch, new_rows.drop_columns("named"), events, context)
    return Release(number, len(accepted_rows), len(accepted_rows) - len(new_rows), len(refused_rows), verdicts.reasons)


def _build_events(accepted_rows: "pa.Table", refused_rows: "pa.Table") -> "pa.Table":
    """Return the rows to append to the quarantine: the released ones, and the kept ones with new values and reasons."""
    import pyarrow as pa

    empty_lists = pa.array([[]] * len(accepted_rows), pa.list_(pa.string()))
    released_rows = accepted_rows.append_column("reasons", empty_lists).append_column("kinds", empty_lists)
    event_tables = []
    for rows, status in ((released_rows, "released"), (refused_rows, "refused")):
        statuses = pa.array([status] * len(rows), pa.string())
        event_tables.append(_restore_versions(rows).append_column("status", statuses))
    return pa.concat_tables(event_tables)


def _restore_versions(rows: "pa.Table") -> "pa.Table":
    """Return the rows under the versions by which the quarantine knows them."""
    index = rows.column_names.index("row_version")
    return rows.set_column(index, "row_version", rows["named"]).drop_columns("named")


def _drop_known_rows(rows: "pa.Table", home: Home) -> "pa.Table":
    """Return the rows that are not in the corpus yet, each version once: two may have been mended into the same one."""
    import numpy as np
    import pyarrow.compute as pc

    known_versions = transactions.read_history(home, ["row_version"])["row_version"]
    rows = rows.filter(pc.invert(pc.is_in(rows["row_version"], value_set=known_versions)))
    codes = np.asarray(rows["row_version"].combine_chunks().dictionary_encode().indices)
    return rows.take(np.sort(np.unique(codes, return_index=True)[1]))


def _rekey_rows(chosen_rows: "pa.Table", context: RunContext) -> "pa.Table":
    """Return the rows with the versions of their new content, and in `named` those that the quarantine knows."""
    import numpy as np
    import pyarrow as pa

    rekeyed_rows = transactions.number_returning_rows(add_keys(chosen_rows, context.recipe), context, by_hand=True)
    positions = pa.array(np.arange(len(rekeyed_rows)))
    return rekeyed_rows.append_column("position", positions).append_column("named", chosen_rows["row_version"])


def _collect_problems(refused_rows: "pa.Table") -> "pa.Array":
    """Return why rows could not be read, else null: such a row is incomplete until a person has mended it."""
    import pyarrow as pa

    rows = refused_rows.select(["kinds", "reasons"]).to_pylist()
    problems = [row["reasons"][0] if row["kinds"] == [judge.UNREADABLE] else None for row in rows]
    return pa.array(problems, pa.string())


def _apply_edits(refused_rows: "pa.Table", mended_rows: "pa.Table") -> "pa.Table":
    """Return the refused rows that were mended, with their new values; an unreadable row that changed is readable.

    Raises:
        DataError: a mended row occurs twice, or is not refused.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = Counter(mended_rows["row_version"].to_pylist())
    duplicates = [version for version, count in counts.items() if count > 1]
    if duplicates:
        raise DataError(f"row_version {min(duplicates)} occurs more than once among the mended rows; keep one of them")
    indices = pc.index_in(mended_rows["row_version"], value_set=refused_rows["row_version"])
    if indices.null_count:
        version = mended_rows["row_version"].filter(indices.is_null())[0].as_py()
        raise DataError(
            f"row_version {version} is not a refused row, or was already released; export the rows again with "
            "`evertune quarantine RECIPE --export FILE` and mend that file"
        )
    original_rows = refused_rows.take(indices)
    _check_ids(original_rows, mended_rows)
    rows = original_rows
    for column in mended_rows.column_names:
        rows = rows.set_column(rows.column_names.index(column), rows.schema.field(column), mended_rows[column])
    edits = zip(_list_cells(original_rows), _list_cells(rows), original_rows["problem"].to_pylist(), strict=True)
    problems = [problem if old_cells == new_cells else None for old_cells, new_cells, problem in edits]
    return rows.set_column(rows.column_names.index("problem"), "problem", pa.array(problems, pa.string()))


def _check_ids(original_rows: "pa.Table", mended_rows: "pa.Table") -> None:
    """Refuse rows whose id changed, as when Excel drops leading zeros: they would stand beside those of their source.

    A row that had no id may get one.

    Args:
        original_rows: as they were refused.
        mended_rows: the same rows, in the same order.
    Raises:
        DataError: names the count, the first change and what to do.
    """
    if "id" not in mended_rows.column_names:
        return
    pairs = zip(original_rows["id"].to_pylist(), mended_rows["id"].to_pylist(), strict=True)
    versions = mended_rows["row_version"].to_pylist()
    changes = [(index, old, new) for index, (old, new) in enumerate(pairs) if old is not None and old != new]
    if changes:
        index, old, new = changes[0]
        raise DataError(
            f"{len(changes):,} of the mended rows have another id than the refused ones, such as {new!r} instead of "
            f"{old!r} (row {index}, row_version {versions[index]}); nothing was released. Keep the ids as they were "
            "exported, as texts, or leave the column id out of the file"
        )


def _list_cells(rows: "pa.Table") -> "list[list[object]]":
    """Return the cells of each row; an empty one counts as missing, as in an exported file."""
    return [[cell or None for cell in row.values()] for row in rows.to_pylist()]


def _keep_newest(rows: "pa.Table") -> "pa.Table":
    """Return the newest entry of each row version: of the highest batch, from the quarantine before a stopped batch."""
    import numpy as np

    versions = np.asarray(rows["row_version"].combine_chunks().dictionary_encode().indices)
    order = np.lexsort((-np.arange(len(rows)), rows["batch"].to_numpy(), versions))
    last_positions = np.flatnonzero(np.append(np.diff(versions[order]) != 0, True)[: len(rows)])
    return rows.take(order[last_positions])


def _drop_superseded(rows: "pa.Table", home: Home) -> "pa.Table":
    """Return the rows whose key was not accepted since: in a later batch, or in the same one with no older moment."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["row_key", "batch", "timestamp"]
    history = transactions.read_history(home, columns)
    accepted_rows: list[_KeyedRow] = history.filter(pc.is_in(history["row_key"], value_set=rows["row_key"])).to_pylist()
    newest_accepted: dict[str, tuple[int, float]] = {}
    for row in accepted_rows:
        key = row["row_key"]
        newest_accepted[key] = max(newest_accepted.get(key, BEFORE_ALL), _sort_key(row))
    keep_mask = [
        newest_accepted.get(row["row_key"], BEFORE_ALL) < _sort_key(row) for row in rows.select(columns).to_pylist()
    ]
    return rows.filter(pa.array(keep_mask, pa.bool_()))


def _sort_key(row: _KeyedRow) -> tuple[int, float]:
    """Return a row's place in time: its batch, then its moment, if it has one."""
    return row["batch"], float("-inf") if row["timestamp"] is None else row["timestamp"].timestamp()
