"""Reading the corpus: its current rows at any version, its labels, and what later batches must know of it."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.columns.chunks import Rows, chosen, standing_again
from evertune.data.columns.components import canonical
from evertune.data.columns.strings import list_digest
from evertune.data.corpus import delta_tables
from evertune.data.corpus.parquet_chunks import PART
from evertune.data.row_versions import as_numbers, as_versions, in_order, own_columns
from evertune.errors import DataError
from evertune.objectives import module
from evertune.records import Batch, Snapshot
from evertune.runtime.files import read_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

LABELLED = ("train", "validation", "test")
COUNTS = "label_counts.json"


def committed(batch: Batch, home: Home) -> bool:
    """Whether both tables have the batch."""
    return last_number(home) >= batch.number


def last_number(home: Home) -> int:
    """Number of the newest batch that both tables have; 0 where there is none."""
    return min(delta_tables.last_batch(home.corpus), delta_tables.last_batch(home.quarantine))


def snapshot(home: Home) -> Snapshot:
    """The corpus as it is now, and what came since the last run that was concluded: a crash in between hides nothing.

    Raises:
        DataError: nothing has been taken in yet.
    """
    version = newest_version(home)
    fingerprint, sizes = contents(home, version)
    return Snapshot(
        version=version, fingerprint=fingerprint, rows=sizes, labels=known_labels(home), batch=last_number(home),
        **_brought(home),
    )  # fmt: skip


def contents(home: Home, version: int) -> tuple[str, dict[str, int]]:
    """Fingerprint of the corpus at a version, order-free over row versions with their splits; and its rows by split."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    read, names = delta_tables.rows_of(home.corpus, version), (*LABELLED, "excluded")
    splits = (pc.index_in(part["split"], value_set=pa.array(names)) for part in read(["split"]))
    split = np.concatenate([np.zeros(0, dtype=np.int8), *(one.to_numpy().astype(np.int8) for one in splits)])
    number, current, start = np.empty((len(split), 2), dtype=np.uint64), _current(read, len(split)), 0
    for part in read(["row_version"]):
        number[start : start + len(part)] = as_numbers(part["row_version"])
        start += len(part)
    if not current.all():
        number, split = number[current], split[current]
    order = in_order(number)
    pairs = (_pairs(number[some], split[some], names) for some in np.split(order, range(PART, len(order), PART)))
    return list_digest(pairs), dict(zip(names, np.bincount(split, minlength=len(names)).tolist(), strict=True))


def _pairs(versions: Any, splits: Any, names: Iterable[str]) -> "pa.Array":
    """Row versions, each with its split."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(as_versions(versions), pa.array(names).take(pa.array(splits)), "")


def _current(read: Rows, size: int) -> Any:
    """Which rows are their key's newest version."""
    import numpy as np
    import pyarrow as pa

    current = np.ones(size, dtype=bool)
    places = standing_again([read], "row_key")
    if len(places):
        some = pa.concat_tables(chosen(read, ["row_key", "batch", "timestamp", "position"], places))
        current[places] = False
        current[newest(some.append_column("place", pa.array(places)))["place"].to_numpy()] = True
    return current


def rows(
    home: Home, version: int, columns: list[str] | None = None, since: int | None = None, until: int | None = None
) -> "pa.Table":
    """The current rows at a version of the corpus, one a row key, in the order in which they came.

    Args:
        columns: those to read. Default: all that steps need (no signatures).
        since: only rows of later batches than this, without `component`, which older rows have a say in.
        until: the rows as they were once this batch was in.
    Raises:
        DataError: there is no such version.
    """
    import pyarrow.compute as pc

    columns = columns or [name for name in _step_columns(home) if since is None or name != "component"]
    order = ["row_version", "row_key", "batch", "timestamp", "position"]
    joins = ["component", "joins"] if "component" in columns else []
    names = list(dict.fromkeys([*order, *columns, *joins]))
    table = delta_tables.read(home.corpus, names, version, since=since, until=until)
    if joins:
        table = table.set_column(table.column_names.index("component"), "component", [canonical(table)])
    if pc.any(pc.not_equal(table["row_key"], table["row_version"])).as_py():
        table = newest(table)
    return table.take(pc.sort_indices(table, [("batch", "ascending"), ("position", "ascending")])).select(columns)


def history(home: Home, columns: Iterable[str], keys: "pa.Array | None" = None) -> "pa.Table":
    """Columns of every row version in the corpus, superseded ones too; no rows where there is no corpus yet.

    Args:
        keys: only rows with these row keys; `row_key` is among the columns then. Default: all.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    types = {"component": pa.int64(), "joins": pa.list_(pa.int64()), "normal_digest": pa.int64(),
             "timestamp": pa.timestamp("us", "UTC")}  # fmt: skip
    nothing = pa.schema([(name, types.get(name, pa.string())) for name in columns]).empty_table()
    parts = delta_tables.rows_of(home.corpus)(list(nothing.column_names))
    if keys is not None:
        parts = (part.filter(pc.is_in(part["row_key"], value_set=keys)) for part in parts)
    return pa.concat_tables(found) if (found := list(parts)) else nothing


def known_rows(home: Home) -> Rows:
    """Reads every row version in the corpus, superseded ones too.

    Raises:
        DataError: an Evertune whose signatures are no longer read has made the corpus.
    """
    if delta_tables.last_batch(home.corpus) and "signature" not in delta_tables.columns(home.corpus):
        raise DataError(
            f"{home.corpus} was made by an older Evertune: near duplicates of its rows could not be found; "
            f"give the recipe a new name, or delete {home.model} and take its sources in again"
        )
    return delta_tables.rows_of(home.corpus)


def inputs(home: Home, role: str) -> "Callable[[pa.Array], pa.Array]":
    """Looks rows of the corpus up: from versions to what they hold in the role, in order."""
    import pyarrow.compute as pc

    def look_up(versions: "pa.Array") -> "pa.Array":
        found = delta_tables.read(home.corpus, ["row_version", role], versions=versions.to_pylist())
        return found[role].combine_chunks().take(pc.index_in(versions, value_set=found["row_version"]))

    return look_up


def newest(table: "pa.Table") -> "pa.Table":
    """Of each row key the version with the highest (batch, timestamp, position)."""
    import numpy as np
    import pyarrow as pa

    keys = np.asarray(table["row_key"].combine_chunks().dictionary_encode().indices)
    lowest = np.iinfo(np.int64).min
    moments = table["timestamp"].cast(pa.int64()).fill_null(lowest).to_numpy()
    order = np.lexsort((table["position"].to_numpy(), moments, table["batch"].to_numpy(), keys))
    last = np.flatnonzero(np.append(np.diff(keys[order]) != 0, True)[: len(table)])
    return table.take(order[last])


def known_labels(home: Home) -> tuple[str, ...]:
    """Every label of the corpus in its fixed order: a label keeps its index for ever, new ones come at the end."""
    return tuple(read_json(home.model / "labels.json") or ())


def label_counts(home: Home) -> dict[str, int]:
    """Rows by label, of all batches; a row whose label was corrected counts under both."""
    return dict((read_json(home.model / COUNTS) or {"rows": {}})["rows"])


def newest_moment(home: Home) -> datetime | None:
    """The newest timestamp of all batches; None where no row has one."""
    found = (read_json(home.model / COUNTS) or {}).get("newest")
    return None if found is None else datetime.fromisoformat(found)


def known_inputs(home: Home, recipe: Recipe) -> "Callable[[pa.Array], pa.Table]":
    """Looks inputs up in the corpus: from digests to `input_digest` and `target_digest` of the rows that have them.

    Targets are digested under the names of today, which only the recipe knows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = ["input_digest", "target_digest"]
    more = [module(recipe.objective.type).TARGET] if recipe.contract.label.rename else []
    nothing = pa.schema([(name, pa.int64()) for name in names]).empty_table()

    def look_up(wanted: "pa.Array") -> "pa.Table":
        read = delta_tables.rows_of(home.corpus)([*names, *more])
        found = (part.filter(pc.is_in(part["input_digest"], value_set=wanted)) for part in read)
        return pa.concat_tables([nothing, *(_digested(part, recipe) for part in found)])

    return look_up


def _digested(rows: "pa.Table", recipe: Recipe) -> "pa.Table":
    import pyarrow as pa

    columns = [rows["input_digest"], relabel.target_digests(rows, recipe)]
    return pa.table(dict(zip(("input_digest", "target_digest"), columns, strict=True)))


def _brought(home: Home) -> dict[str, Any]:
    """Rows of the batches after the last concluded one; a row that was refused and then released counts as accepted."""
    since = ((read_json(home.state) or {}).get("concluded") or {}).get("batch", 0)
    accepted = len(delta_tables.read(home.corpus, ["batch"], since=since))
    events = delta_tables.read(home.quarantine, ["row_version", "batch", "kinds", "status"])
    events = events.sort_by("batch").to_pylist()
    first = {row["row_version"]: row["batch"] for row in reversed(events)}
    last = {row["row_version"]: row for row in events if first[row["row_version"]] > since}
    refused = [row for row in last.values() if row["status"] == "refused"]
    reasons = Counter(kind for row in refused for kind in set(row["kinds"]))
    return {
        "new": accepted + len(refused),
        "accepted": accepted,
        "refused": len(refused),
        "reasons": dict(reasons.most_common()),
        "data_docs": tuple(str(one) for one in sorted(home.data_docs.glob("*/")) if int(one.name) > since),
    }


def newest_version(home: Home) -> int:
    """The corpus' newest version.

    Raises:
        DataError: nothing has been taken in yet.
    """
    if not delta_tables.last_batch(home.corpus):
        raise DataError(f"{home.name} has no rows yet; run `evertune run` with the recipe first")
    return delta_tables.version(home.corpus)


def batch_of(home: Home, version: int) -> int:
    """Number of the newest batch in a version of the corpus.

    Raises:
        DataError: there is no such version.
    """
    return delta_tables.batch_of(home.corpus, version)


def _step_columns(home: Home) -> list[str]:
    own = own_columns(delta_tables.columns(home.corpus))
    first = ["row_version", "row_key", "batch", "part", "split", "component"]
    return [*first, *own, "id", "timestamp", "group", "source", "source_row"]
