"""Refused rows: listed with their reasons, written out to be mended, judged again and released."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data import admission
from evertune.data.contract import judge
from evertune.data.corpus import delta_tables, staging, tombstones, transactions
from evertune.data.quarantine.files import read_mended, write_listing
from evertune.data.row_versions import add_keys
from evertune.errors import DataError
from evertune.records import Batch, compute_digest
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Release", "export_refused", "list_refused", "read_mended", "release_file", "release_rows"]

WAIT = 5.0  # seconds for a run that is at work


@dataclass(frozen=True)
class Release:
    """What became of refused rows that were judged again.

    Args:
        batch: number of the batch that they came in as; None where nothing changed.
        released: rows that are in the corpus now; known: of these, rows whose content was there already.
        kept: rows that stay in the quarantine.
        reasons: why these stay, by class of reason.
    """

    batch: int | None
    released: int
    known: int
    kept: int
    reasons: dict[str, int]


def list_refused(home: Home) -> "pa.Table":
    """Refused rows that are not released, with `reasons`, `kinds`, `batch`, `status`, `source` and `source_row`.

    A row whose key has come in again and was accepted is not listed: its source mended it. `status` is `stopped` where
    the whole batch was stopped.

    Raises:
        DataError: nothing has been taken in yet.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    stopped = staging.read_stopped(home)
    tables = [delta_tables.read_rows(home.quarantine)] if delta_tables.last_batch(home.quarantine) else []
    if stopped is not None:
        status = stopped.column_names.index("status")
        tables.append(stopped.set_column(status, "status", pa.array(["stopped"] * len(stopped), pa.string())))
    if not tables:
        raise DataError(f"{home.name} has taken in no rows yet; run `evertune run` with the recipe first")
    rows = _keep_newest(pa.concat_tables(tables, promote_options="default"))
    rows = _drop_superseded(rows.filter(pc.not_equal(rows["status"], "released")), home)
    return rows.sort_by([("batch", "ascending"), ("source", "ascending"), ("source_row", "ascending")])


def export_refused(home: Home, path: Path) -> int:
    """Write the listing, as CSV or by its ending JSON Lines, to be mended and released; gives the number of rows.

    Raises:
        DataError: nothing has been taken in yet, or `path` cannot be written.
    """
    rows = list_refused(home)
    write_listing(rows, path)
    return len(rows)


def release_rows(recipe: Recipe, home: Home, mended_rows: "pa.Table | None" = None) -> Release:
    """Judge refused rows again by today's contract; those that pass enter the corpus as a batch of their own.

    The others stay, as mended, with the reasons of today.

    Args:
        mended: `row_version` of the rows to release and their roles' values, from `quarantine_files.read_mended`.
            Default: all listed rows as they are.
    Raises:
        DataError: nothing has been taken in yet, a staged batch waits, or `mended` does not fit the quarantine.
    """
    transactions.finish_commit(home)  # else rows that a killed release had judged would be judged again
    if staging.find_staged_batch(home) is not None:
        raise DataError(
            f"a batch of {home.name} is staged and not judged yet; run `evertune run` with the recipe first"
        )
    if not transactions.known_labels(home):
        raise DataError(f"{home.name} has no accepted rows to judge by; run `evertune run` with the recipe first")
    refused_rows = list_refused(home)
    refused_rows = refused_rows.append_column("problem", _collect_problems(refused_rows))
    chosen_rows = refused_rows if mended_rows is None else _apply_edits(refused_rows, mended_rows)
    if not len(chosen_rows):
        return Release(batch=None, released=0, known=0, kept=0, reasons={})
    rekeyed_rows = _rekey_rows(chosen_rows, recipe, home)
    if count := int(tombstones.load_tombstones(home).find_forgotten(rekeyed_rows).sum()):
        raise DataError(f"{count:,} of the mended rows were forgotten (`evertune forget`); take them out of the file")
    verdicts = judge.check_rows(
        rekeyed_rows, recipe, transactions.known_labels(home), transactions.known_inputs(home, recipe)
    )
    return _commit_release(recipe, home, verdicts, keep_edits=mended_rows is not None)


def release_file(recipe: Recipe, home: Home, path: Path | None) -> Release:
    """Release the rows of a mended file, or all as they are.

    Raises:
        DataError: see `release` and `read_mended`.
        RegistryError: a run is at work, or rows are being forgotten.
    """
    with home.lock("run", timeout=WAIT):
        return release_rows(recipe, home, None if path is None else read_mended(path, recipe))


def _commit_release(recipe: Recipe, home: Home, verdicts: judge.Verdicts, keep_edits: bool) -> Release:
    """One batch: new rows to the corpus; releases, and edits of rows that stay, to the quarantine."""
    accepted_rows = verdicts.accepted
    refused_rows = verdicts.refused
    number = transactions.last_number(home) + 1
    if not len(accepted_rows) and not keep_edits:
        return Release(batch=None, released=0, known=0, kept=len(refused_rows), reasons=verdicts.reasons)
    new_rows = _drop_known_rows(accepted_rows, home)
    events = _build_events(accepted_rows, refused_rows)
    batch = Batch(
        number,
        None,
        compute_digest(sorted(accepted_rows["named"].to_pylist())),
        len(accepted_rows),
        len(accepted_rows) + len(refused_rows),
    )
    admission.commit_release(batch, new_rows.drop_columns("named"), events, recipe, home)
    return Release(number, len(accepted_rows), len(accepted_rows) - len(new_rows), len(refused_rows), verdicts.reasons)


def _build_events(accepted_rows: "pa.Table", refused_rows: "pa.Table") -> "pa.Table":
    """What the quarantine is told: these rows are released, those have new values and reasons."""
    import pyarrow as pa

    empty_lists = pa.array([[]] * len(accepted_rows), pa.list_(pa.string()))
    released_rows = accepted_rows.append_column("reasons", empty_lists).append_column("kinds", empty_lists)
    event_tables = []
    for rows, status in ((released_rows, "released"), (refused_rows, "refused")):
        event_tables.append(
            _restore_versions(rows).append_column("status", pa.array([status] * len(rows), pa.string()))
        )
    return pa.concat_tables(event_tables)


def _restore_versions(rows: "pa.Table") -> "pa.Table":
    """Rows under the version by which the quarantine knows them."""
    index = rows.column_names.index("row_version")
    return rows.set_column(index, "row_version", rows["named"]).drop_columns("named")


def _drop_known_rows(rows: "pa.Table", home: Home) -> "pa.Table":
    """Rows that are not there yet, each version once: two refused rows may have been mended into the same one."""
    import numpy as np
    import pyarrow.compute as pc

    known_versions = transactions.read_history(home, ["row_version"])["row_version"]
    rows = rows.filter(pc.invert(pc.is_in(rows["row_version"], value_set=known_versions)))
    codes = np.asarray(rows["row_version"].combine_chunks().dictionary_encode().indices)
    return rows.take(np.sort(np.unique(codes, return_index=True)[1]))


def _rekey_rows(chosen_rows: "pa.Table", recipe: Recipe, home: Home) -> "pa.Table":
    """Rows with the versions of what they hold now, beside those that the quarantine knows them by."""
    import numpy as np
    import pyarrow as pa

    rekeyed_rows = transactions.number_returning_rows(add_keys(chosen_rows, recipe), recipe, home, by_hand=True)
    return rekeyed_rows.append_column("position", pa.array(np.arange(len(rekeyed_rows)))).append_column(
        "named", chosen_rows["row_version"]
    )


def _collect_problems(refused_rows: "pa.Table") -> "pa.Array":
    """Why rows could not be read: what stands of such a row is not the row, until a person has mended it."""
    import pyarrow as pa

    rows = refused_rows.select(["kinds", "reasons"]).to_pylist()
    problems = [row["reasons"][0] if row["kinds"] == [judge.UNREADABLE] else None for row in rows]
    return pa.array(problems, pa.string())


def _apply_edits(refused_rows: "pa.Table", mended_rows: "pa.Table") -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    versions = mended_rows["row_version"].to_pylist()
    if duplicates := {version for version in versions if versions.count(version) > 1}:
        raise DataError(f"row_version {min(duplicates)} stands twice among the mended rows; keep one of them")
    indices = pc.index_in(mended_rows["row_version"], value_set=refused_rows["row_version"])
    if indices.null_count:
        version = mended_rows["row_version"].filter(indices.is_null())[0].as_py()
        raise DataError(
            f"row_version {version} is no refused row, or was released already; write the list anew with "
            "`evertune quarantine RECIPE --export FILE` and mend that"
        )
    original_rows = rows = refused_rows.take(indices)
    for column in mended_rows.column_names:
        rows = rows.set_column(rows.column_names.index(column), rows.schema.field(column), mended_rows[column])
    pairs = zip(_list_cells(original_rows), _list_cells(rows), original_rows["problem"].to_pylist(), strict=True)
    problems = [old_problem if old_cells == new_cells else None for old_cells, new_cells, old_problem in pairs]
    return rows.set_column(rows.column_names.index("problem"), "problem", pa.array(problems, pa.string()))


def _list_cells(rows: "pa.Table") -> "list[list[Any]]":
    """The cells of each row; an empty one is a missing one, as in a file that was exported."""
    return [[cell or None for cell in row.values()] for row in rows.to_pylist()]


def _keep_newest(rows: "pa.Table") -> "pa.Table":
    """The last word on each row version: that of the highest batch, the quarantine's before a stopped batch's."""
    import numpy as np

    versions = np.asarray(rows["row_version"].combine_chunks().dictionary_encode().indices)
    order = np.lexsort((-np.arange(len(rows)), rows["batch"].to_numpy(), versions))
    last_positions = np.flatnonzero(np.append(np.diff(versions[order]) != 0, True)[: len(rows)])
    return rows.take(order[last_positions])


def _drop_superseded(rows: "pa.Table", home: Home) -> "pa.Table":
    """Without rows whose key was accepted later, in a later batch or, in the same one, with no older moment."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["row_key", "batch", "timestamp"]
    accepted_rows = transactions.read_history(home, columns)
    accepted_rows = accepted_rows.filter(pc.is_in(accepted_rows["row_key"], value_set=rows["row_key"])).to_pylist()
    newest: dict[str, tuple[int, Any]] = {}
    for row in accepted_rows:
        newest[row["row_key"]] = max(
            newest.get(row["row_key"], (0, None)), (row["batch"], row["timestamp"]), key=_sort_key
        )
    keep_mask = [
        row["row_key"] not in newest or _sort_key(newest[row["row_key"]]) < _sort_key((row["batch"], row["timestamp"]))
        for row in rows.select(columns).to_pylist()
    ]
    return rows.filter(pa.array(keep_mask, pa.bool_()))


def _sort_key(batch_moment: tuple[int, Any]) -> tuple[int, float]:
    batch, timestamp = batch_moment
    return batch, float("-inf") if timestamp is None else timestamp.timestamp()
