"""Reading the corpus: its current rows at any version, its labels, and what later batches must know of it."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.columns.chunks import RowReader, find_repeated_strings, select_rows
from evertune.data.columns.components import resolve_components
from evertune.data.columns.strings import digest_list
from evertune.data.corpus import delta_tables
from evertune.data.corpus.parquet_chunks import PART
from evertune.data.corpus.state import load_state
from evertune.data.row_versions import list_own_columns, numbers_to_versions, order_versions, versions_to_numbers
from evertune.errors import DataError
from evertune.objectives import load_objective
from evertune.records import Batch, Snapshot
from evertune.runtime.files import read_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

LABELLED = ("train", "validation", "test")
COUNTS = "label_counts.json"


def is_committed(batch: Batch, home: Home) -> bool:
    """Whether both tables have the batch."""
    return last_number(home) >= batch.number


def last_number(home: Home) -> int:
    """Number of the newest batch that both tables have; 0 where there is none."""
    return min(delta_tables.last_batch(home.corpus), delta_tables.last_batch(home.quarantine))


def take_snapshot(home: Home) -> Snapshot:
    """The corpus as it is now, and what came since the last run that was concluded: a crash in between hides nothing.

    Raises:
        DataError: nothing has been taken in yet.
    """
    version = newest_version(home)
    fingerprint, sizes = fingerprint_contents(home, version)
    return Snapshot(
        version=version,
        fingerprint=fingerprint,
        rows=sizes,
        labels=known_labels(home),
        batch=last_number(home),
        **_summarize_new_batches(home),
    )


def fingerprint_contents(home: Home, version: int) -> tuple[str, dict[str, int]]:
    """Fingerprint of the corpus at a version, order-free over row versions with their splits; and its rows by split."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    read_chunks = delta_tables.rows_of(home.corpus, version)
    names = (*LABELLED, "excluded")
    split_chunks = (pc.index_in(chunk["split"], value_set=pa.array(names)) for chunk in read_chunks(["split"]))
    split_codes = np.concatenate(
        [np.zeros(0, dtype=np.int8), *(codes.to_numpy().astype(np.int8) for codes in split_chunks)]
    )
    versions = np.empty((len(split_codes), 2), dtype=np.uint64)
    is_current = _find_current(read_chunks, len(split_codes))
    start = 0
    for chunk in read_chunks(["row_version"]):
        versions[start : start + len(chunk)] = versions_to_numbers(chunk["row_version"])
        start += len(chunk)
    if not is_current.all():
        versions = versions[is_current]
        split_codes = split_codes[is_current]
    order = order_versions(versions)
    pairs = (
        _pair_versions(versions[indices], split_codes[indices], names)
        for indices in np.split(order, range(PART, len(order), PART))
    )
    return digest_list(pairs), dict(zip(names, np.bincount(split_codes, minlength=len(names)).tolist(), strict=True))


def _pair_versions(versions: Any, splits: Any, names: Iterable[str]) -> "pa.Array":
    """Row versions, each with its split."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(numbers_to_versions(versions), pa.array(names).take(pa.array(splits)), "")


def _find_current(read_chunks: RowReader, size: int) -> Any:
    """Which rows are their key's newest version."""
    import numpy as np
    import pyarrow as pa

    is_current = np.ones(size, dtype=bool)
    row_indices = find_repeated_strings([read_chunks], "row_key")
    if len(row_indices):
        candidates = pa.concat_tables(
            select_rows(read_chunks, ["row_key", "batch", "timestamp", "position"], row_indices)
        )
        is_current[row_indices] = False
        is_current[select_newest(candidates.append_column("place", pa.array(row_indices)))["place"].to_numpy()] = True
    return is_current


def read_rows(
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
    table = delta_tables.read_rows(home.corpus, names, version, since=since, until=until)
    if joins:
        table = table.set_column(table.column_names.index("component"), "component", [resolve_components(table)])
    if pc.any(pc.not_equal(table["row_key"], table["row_version"])).as_py():
        table = select_newest(table)
    return table.take(pc.sort_indices(table, [("batch", "ascending"), ("position", "ascending")])).select(columns)


def read_history(home: Home, columns: Iterable[str], keys: "pa.Array | None" = None) -> "pa.Table":
    """Columns of every row version in the corpus, superseded ones too; no rows where there is no corpus yet.

    Args:
        keys: only rows with these row keys; `row_key` is among the columns then. Default: all.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column_types = {
        "component": pa.int64(),
        "joins": pa.list_(pa.int64()),
        "normal_digest": pa.int64(),
        "timestamp": pa.timestamp("us", "UTC"),
    }
    no_rows = pa.schema([(name, column_types.get(name, pa.string())) for name in columns]).empty_table()
    chunks = delta_tables.rows_of(home.corpus)(list(no_rows.column_names))
    if keys is not None:
        chunks = (chunk.filter(pc.is_in(chunk["row_key"], value_set=keys)) for chunk in chunks)
    return pa.concat_tables(tables) if (tables := list(chunks)) else no_rows


def known_rows(home: Home) -> RowReader:
    """Reads every row version in the corpus, superseded ones too.

    Raises:
        DataError: an Evertune whose signatures are no longer read has made the corpus.
    """
    if delta_tables.last_batch(home.corpus) and "signature" not in delta_tables.list_columns(home.corpus):
        raise DataError(
            f"{home.corpus} was made by an older Evertune: near duplicates of its rows could not be found; "
            f"give the recipe a new name, or delete {home.model} and take its sources in again"
        )
    return delta_tables.rows_of(home.corpus)


def make_input_lookup(home: Home, role: str) -> "Callable[[pa.Array], pa.Array]":
    """Looks rows of the corpus up: from versions to what they hold in the role, in order."""
    import pyarrow.compute as pc

    def look_up(versions: "pa.Array") -> "pa.Array":
        stored = delta_tables.read_rows(home.corpus, ["row_version", role], versions=versions.to_pylist())
        return stored[role].combine_chunks().take(pc.index_in(versions, value_set=stored["row_version"]))

    return look_up


def select_newest(table: "pa.Table") -> "pa.Table":
    """Of each row key the version with the highest (batch, timestamp, position)."""
    import numpy as np
    import pyarrow as pa

    keys = np.asarray(table["row_key"].combine_chunks().dictionary_encode().indices)
    lowest = np.iinfo(np.int64).min
    moments = table["timestamp"].cast(pa.int64()).fill_null(lowest).to_numpy()
    order = np.lexsort((table["position"].to_numpy(), moments, table["batch"].to_numpy(), keys))
    last_positions = np.flatnonzero(np.append(np.diff(keys[order]) != 0, True)[: len(table)])
    return table.take(order[last_positions])


def known_labels(home: Home) -> tuple[str, ...]:
    """Every label of the corpus in its fixed order: a label keeps its index for ever, new ones come at the end."""
    return tuple(read_json(home.model / "labels.json") or ())


def label_counts(home: Home) -> dict[str, int]:
    """Rows by label, of all batches; a row whose label was corrected counts under both."""
    return dict((read_json(home.model / COUNTS) or {"rows": {}})["rows"])


def newest_moment(home: Home) -> datetime | None:
    """The newest timestamp of all batches; None where no row has one."""
    moment = (read_json(home.model / COUNTS) or {}).get("newest")
    return None if moment is None else datetime.fromisoformat(moment)


def known_inputs(home: Home, recipe: Recipe) -> "Callable[[pa.Array], pa.Table]":
    """Looks inputs up in the corpus: from digests to `input_digest` and `target_digest` of the rows that have them.

    Targets are digested under the names of today, which only the recipe knows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = ["input_digest", "target_digest"]
    target_columns = [load_objective(recipe.objective.type).TARGET] if recipe.contract.label.rename else []
    no_rows = pa.schema([(name, pa.int64()) for name in names]).empty_table()

    def look_up(digests: "pa.Array") -> "pa.Table":
        chunks = delta_tables.rows_of(home.corpus)([*names, *target_columns])
        matches = (chunk.filter(pc.is_in(chunk["input_digest"], value_set=digests)) for chunk in chunks)
        return pa.concat_tables([no_rows, *(_select_digests(chunk, recipe) for chunk in matches)])

    return look_up


def _select_digests(rows: "pa.Table", recipe: Recipe) -> "pa.Table":
    import pyarrow as pa

    columns = [rows["input_digest"], label_names.digest_targets(rows, recipe)]
    return pa.table(dict(zip(("input_digest", "target_digest"), columns, strict=True)))


def _summarize_new_batches(home: Home) -> dict[str, Any]:
    """Rows of the batches after the last concluded one; a row that was refused and then released counts as accepted."""
    since = load_state(home).concluded_batch
    accepted = len(delta_tables.read_rows(home.corpus, ["batch"], since=since))
    events = delta_tables.read_rows(home.quarantine, ["row_version", "batch", "kinds", "status"])
    events = events.sort_by("batch").to_pylist()
    first_seen = {row["row_version"]: row["batch"] for row in reversed(events)}
    latest_events = {row["row_version"]: row for row in events if first_seen[row["row_version"]] > since}
    refused = [row for row in latest_events.values() if row["status"] == "refused"]
    reasons = Counter(kind for row in refused for kind in set(row["kinds"]))
    return {
        "new": accepted + len(refused),
        "accepted": accepted,
        "refused": len(refused),
        "reasons": dict(reasons.most_common()),
        "data_docs": tuple(str(folder) for folder in sorted(home.data_docs.glob("*/")) if int(folder.name) > since),
    }


def newest_version(home: Home) -> int:
    """The corpus' newest version.

    Raises:
        DataError: nothing has been taken in yet.
    """
    if not delta_tables.last_batch(home.corpus):
        raise DataError(f"{home.name} has no rows yet; run `evertune run` with the recipe first")
    return delta_tables.get_version(home.corpus)


def batch_of(home: Home, version: int) -> int:
    """Number of the newest batch in a version of the corpus.

    Raises:
        DataError: there is no such version.
    """
    return delta_tables.batch_of(home.corpus, version)


def _step_columns(home: Home) -> list[str]:
    objective_columns = list_own_columns(delta_tables.list_columns(home.corpus))
    key_columns = ["row_version", "row_key", "batch", "part", "split", "component"]
    return [*key_columns, *objective_columns, "id", "timestamp", "group", "source", "source_row"]
