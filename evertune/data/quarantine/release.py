"""Refused rows: listed with their reasons, written out to be mended, judged again and released."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data import admission
from evertune.data.contract import judge as contract
from evertune.data.corpus import delta_tables, staging, tombstones
from evertune.data.corpus import transactions as corpus
from evertune.data.quarantine.files import read_mended, write_listing
from evertune.data.row_versions import keyed
from evertune.errors import DataError
from evertune.records import Batch, digest
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Release", "export", "listing", "read_mended", "release", "release_file"]

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


def listing(home: Home) -> "pa.Table":
    """Refused rows that are not released, with `reasons`, `kinds`, `batch`, `status`, `source` and `source_row`.

    A row whose key has come in again and was accepted is not listed: its source mended it. `status` is `stopped` where
    the whole batch was stopped.

    Raises:
        DataError: nothing has been taken in yet.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    stopped = staging.read_stopped(home)
    parts = [delta_tables.read(home.quarantine)] if delta_tables.last_batch(home.quarantine) else []
    if stopped is not None:
        status = stopped.column_names.index("status")
        parts.append(stopped.set_column(status, "status", pa.array(["stopped"] * len(stopped), pa.string())))
    if not parts:
        raise DataError(f"{home.name} has taken in no rows yet; run `evertune run` with the recipe first")
    rows = _newest(pa.concat_tables(parts, promote_options="default"))
    rows = _not_superseded(rows.filter(pc.not_equal(rows["status"], "released")), home)
    return rows.sort_by([("batch", "ascending"), ("source", "ascending"), ("source_row", "ascending")])


def export(home: Home, path: Path) -> int:
    """Write the listing, as CSV or by its ending JSON Lines, to be mended and released; gives the number of rows.

    Raises:
        DataError: nothing has been taken in yet, or `path` cannot be written.
    """
    rows = listing(home)
    write_listing(rows, path)
    return len(rows)


def release(recipe: Recipe, home: Home, mended: "pa.Table | None" = None) -> Release:
    """Judge refused rows again by today's contract; those that pass enter the corpus as a batch of their own.

    The others stay, as mended, with the reasons of today.

    Args:
        mended: `row_version` of the rows to release and their roles' values, from `quarantine_files.read_mended`.
            Default: all listed rows as they are.
    Raises:
        DataError: nothing has been taken in yet, a staged batch waits, or `mended` does not fit the quarantine.
    """
    corpus.finish(home)  # else rows that a killed release had judged would be judged again
    if staging.waiting(home) is not None:
        raise DataError(
            f"a batch of {home.name} is staged and not judged yet; run `evertune run` with the recipe first"
        )
    if not corpus.known_labels(home):
        raise DataError(f"{home.name} has no accepted rows to judge by; run `evertune run` with the recipe first")
    listed = listing(home)
    listed = listed.append_column("problem", _problems(listed))
    chosen = listed if mended is None else _with_mended(listed, mended)
    if not len(chosen):
        return Release(batch=None, released=0, known=0, kept=0, reasons={})
    again = _keyed_again(chosen, recipe, home)
    if count := int(tombstones.load(home).on(again).sum()):
        raise DataError(f"{count:,} of the mended rows were forgotten (`evertune forget`); take them out of the file")
    verdicts = contract.judge_rows(again, recipe, corpus.known_labels(home), corpus.known_inputs(home, recipe))
    return _commit(recipe, home, verdicts, keep_edits=mended is not None)


def release_file(recipe: Recipe, home: Home, path: Path | None) -> Release:
    """Release the rows of a mended file, or all as they are.

    Raises:
        DataError: see `release` and `read_mended`.
        RegistryError: a run is at work, or rows are being forgotten.
    """
    with home.lock("run", timeout=WAIT):
        return release(recipe, home, None if path is None else read_mended(path, recipe))


def _commit(recipe: Recipe, home: Home, verdicts: contract.Verdicts, keep_edits: bool) -> Release:
    """One batch: new rows to the corpus; releases, and edits of rows that stay, to the quarantine."""
    passed, stay = verdicts.accepted, verdicts.refused
    number = corpus.last_number(home) + 1
    if not len(passed) and not keep_edits:
        return Release(batch=None, released=0, known=0, kept=len(stay), reasons=verdicts.reasons)
    new = _not_in_corpus(passed, home)
    events = _events(passed, stay)
    batch = Batch(number, None, digest(sorted(passed["named"].to_pylist())), len(passed), len(passed) + len(stay))
    admission.release(batch, new.drop_columns("named"), events, recipe, home)
    return Release(number, len(passed), len(passed) - len(new), len(stay), verdicts.reasons)


def _events(passed: "pa.Table", stay: "pa.Table") -> "pa.Table":
    """What the quarantine is told: these rows are released, those have new values and reasons."""
    import pyarrow as pa

    nothing = pa.array([[]] * len(passed), pa.list_(pa.string()))
    released = passed.append_column("reasons", nothing).append_column("kinds", nothing)
    both = []
    for rows, status in ((released, "released"), (stay, "refused")):
        both.append(_named(rows).append_column("status", pa.array([status] * len(rows), pa.string())))
    return pa.concat_tables(both)


def _named(rows: "pa.Table") -> "pa.Table":
    """Rows under the version by which the quarantine knows them."""
    version = rows.column_names.index("row_version")
    return rows.set_column(version, "row_version", rows["named"]).drop_columns("named")


def _not_in_corpus(rows: "pa.Table", home: Home) -> "pa.Table":
    """Rows that are not there yet, each version once: two refused rows may have been mended into the same one."""
    import numpy as np
    import pyarrow.compute as pc

    known = corpus.history(home, ["row_version"])["row_version"]
    rows = rows.filter(pc.invert(pc.is_in(rows["row_version"], value_set=known)))
    codes = np.asarray(rows["row_version"].combine_chunks().dictionary_encode().indices)
    return rows.take(np.sort(np.unique(codes, return_index=True)[1]))


def _keyed_again(chosen: "pa.Table", recipe: Recipe, home: Home) -> "pa.Table":
    """Rows with the versions of what they hold now, beside those that the quarantine knows them by."""
    import numpy as np
    import pyarrow as pa

    again = corpus.with_returns(keyed(chosen, recipe), recipe, home, by_hand=True)
    return again.append_column("position", pa.array(np.arange(len(again)))).append_column(
        "named", chosen["row_version"]
    )


def _problems(listed: "pa.Table") -> "pa.Array":
    """Why rows could not be read: what stands of such a row is not the row, until a person has mended it."""
    import pyarrow as pa

    rows = listed.select(["kinds", "reasons"]).to_pylist()
    found = [row["reasons"][0] if row["kinds"] == [contract.UNREADABLE] else None for row in rows]
    return pa.array(found, pa.string())


def _with_mended(listed: "pa.Table", mended: "pa.Table") -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    names = mended["row_version"].to_pylist()
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"row_version {min(twice)} stands twice among the mended rows; keep one of them")
    place = pc.index_in(mended["row_version"], value_set=listed["row_version"])
    if place.null_count:
        name = mended["row_version"].filter(place.is_null())[0].as_py()
        raise DataError(
            f"row_version {name} is no refused row, or was released already; write the list anew with "
            "`evertune quarantine RECIPE --export FILE` and mend that"
        )
    before = rows = listed.take(place)
    for column in mended.column_names:
        rows = rows.set_column(rows.column_names.index(column), rows.schema.field(column), mended[column])
    pairs = zip(_cells(before), _cells(rows), before["problem"].to_pylist(), strict=True)
    problem = [told if one == two else None for one, two, told in pairs]
    return rows.set_column(rows.column_names.index("problem"), "problem", pa.array(problem, pa.string()))


def _cells(rows: "pa.Table") -> "list[list[Any]]":
    """The cells of each row; an empty one is a missing one, as in a file that was exported."""
    return [[cell or None for cell in row.values()] for row in rows.to_pylist()]


def _newest(rows: "pa.Table") -> "pa.Table":
    """The last word on each row version: that of the highest batch, the quarantine's before a stopped batch's."""
    import numpy as np

    versions = np.asarray(rows["row_version"].combine_chunks().dictionary_encode().indices)
    order = np.lexsort((-np.arange(len(rows)), rows["batch"].to_numpy(), versions))
    last = np.flatnonzero(np.append(np.diff(versions[order]) != 0, True)[: len(rows)])
    return rows.take(order[last])


def _not_superseded(rows: "pa.Table", home: Home) -> "pa.Table":
    """Without rows whose key was accepted later, in a later batch or, in the same one, with no older moment."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["row_key", "batch", "timestamp"]
    accepted = corpus.history(home, columns)
    accepted = accepted.filter(pc.is_in(accepted["row_key"], value_set=rows["row_key"])).to_pylist()
    newest: dict[str, tuple[int, Any]] = {}
    for row in accepted:
        newest[row["row_key"]] = max(
            newest.get(row["row_key"], (0, None)), (row["batch"], row["timestamp"]), key=_order
        )
    keep = [
        row["row_key"] not in newest or _order(newest[row["row_key"]]) < _order((row["batch"], row["timestamp"]))
        for row in rows.select(columns).to_pylist()
    ]
    return rows.filter(pa.array(keep, pa.bool_()))


def _order(moment: tuple[int, Any]) -> tuple[int, float]:
    batch, timestamp = moment
    return batch, float("-inf") if timestamp is None else timestamp.timestamp()
