"""Read the corpus: its current rows at any version, its labels, and what later batches need to know of it."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

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
from evertune.records import Batch, Snapshot
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LABELLED = ("train", "validation", "test")
COUNTS = "label_counts.json"


def is_committed(batch: Batch, home: Home) -> bool:
    """Return whether both tables have the batch."""
    return last_number(home) >= batch.number


def last_number(home: Home) -> int:
    """Return the number of the newest batch that both tables have; 0 before the first."""
    return min(delta_tables.last_batch(home.corpus), delta_tables.last_batch(home.quarantine))


def take_snapshot(home: Home) -> Snapshot:
    """Return the corpus as it is now, with counts of the rows that came since the last concluded run.

    Raises:
        DataError: nothing has been ingested yet.
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
    """Return an order-free fingerprint of the current row versions and their splits, and the rows by split."""
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


def _pair_versions(versions: "np.ndarray", splits: "np.ndarray", names: Iterable[str]) -> "pa.Array":
    """Return each row version followed by the name of its split."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(numbers_to_versions(versions), pa.array(names).take(pa.array(splits)), "")


def _find_current(read_chunks: RowReader, size: int) -> "np.ndarray":
    """Return a mask (size,) of the rows that are their key's newest version."""
    import numpy as np
    import pyarrow as pa

    is_current = np.ones(size, dtype=bool)
    row_indices = find_repeated_strings([read_chunks], "row_key")
    if len(row_indices):
        names = ["row_key", "batch", "timestamp", "position"]
        candidates = pa.concat_tables(select_rows(read_chunks, names, row_indices))
        newest = select_newest(candidates.append_column("row_index", pa.array(row_indices)))
        is_current[row_indices] = False
        is_current[newest["row_index"].to_numpy()] = True
    return is_current


def read_rows(
    home: Home, version: int, columns: list[str] | None = None, since: int | None = None, until: int | None = None
) -> "pa.Table":
    """Return the current rows at a version of the corpus, one per row key, in the order in which they came.

    Args:
        version: Delta version of the corpus.
        columns: those to read. Default: all that steps need (no signatures).
        since: only rows of later batches than this, without `component`, which depends on older rows.
        until: rows as they were when this batch was the newest.
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
    """Return columns of every row version in the corpus, superseded ones included; no rows before the first batch.

    Args:
        keys: only rows with these row keys; `columns` must then include `row_key`. Default: all.
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
    tables = list(chunks)
    return pa.concat_tables(tables) if tables else no_rows


def known_rows(home: Home) -> RowReader:
    """Return a reader of every row version in the corpus, superseded ones included.

    Raises:
        DataError: the corpus was made by an older Evertune version, without signatures.
    """
    if delta_tables.last_batch(home.corpus) and "signature" not in delta_tables.list_columns(home.corpus):
        raise DataError(
            f"{home.corpus} was made by an older Evertune version, without the signatures that find near duplicates. "
            f"Give the recipe a new name, or delete {home.model} and ingest its sources again"
        )
    return delta_tables.rows_of(home.corpus)


def make_input_lookup(home: Home, role: str) -> "Callable[[pa.Array], pa.Array]":
    """Return a function from row versions to the values that the corpus has for them in the role, in their order."""
    import pyarrow.compute as pc

    def look_up(versions: "pa.Array") -> "pa.Array":
        stored = delta_tables.read_rows(home.corpus, ["row_version", role], versions=versions.to_pylist())
        return stored[role].combine_chunks().take(pc.index_in(versions, value_set=stored["row_version"]))

    return look_up


def select_newest(table: "pa.Table") -> "pa.Table":
    """Return of each row key the row with the highest (batch, timestamp, position)."""
    import numpy as np
    import pyarrow as pa

    keys = np.asarray(table["row_key"].combine_chunks().dictionary_encode().indices)
    lowest = np.iinfo(np.int64).min
    moments = table["timestamp"].cast(pa.int64()).fill_null(lowest).to_numpy()
    order = np.lexsort((table["position"].to_numpy(), moments, table["batch"].to_numpy(), keys))
    last_positions = np.flatnonzero(np.append(np.diff(keys[order]) != 0, True)[: len(table)])
    return table.take(order[last_positions])


def known_labels(home: Home) -> tuple[str, ...]:
    """Return every label of the corpus in its fixed order: labels keep their index, new ones are appended."""
    return tuple(read_json(home.model / "labels.json") or ())


def load_label_counts(home: Home) -> dict[str, int]:
    """Return rows by label over all batches; a row whose label was corrected counts under both."""
    stored = read_json(home.model / COUNTS)
    return {} if stored is None else dict(stored["rows"])


def newest_moment(home: Home) -> datetime | None:
    """Return the newest timestamp of all batches; None if no row has one."""
    moment = (read_json(home.model / COUNTS) or {}).get("newest")
    return None if moment is None else datetime.fromisoformat(moment)


def known_inputs(context: RunContext) -> "Callable[[pa.Array], pa.Table]":
    """Return a function from input digests to `input_digest` and `target_digest` of the corpus rows that have them.

    Targets are digested under their current names, after `contract.label.rename`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = ["input_digest", "target_digest"]
    target_columns = [context.objective.TARGET] if context.recipe.contract.label.rename else []
    no_rows = pa.schema([(name, pa.int64()) for name in names]).empty_table()

    def look_up(digests: "pa.Array") -> "pa.Table":
        chunks = delta_tables.rows_of(context.home.corpus)([*names, *target_columns])
        matches = (chunk.filter(pc.is_in(chunk["input_digest"], value_set=digests)) for chunk in chunks)
        return pa.concat_tables([no_rows, *(_select_digests(chunk, context.recipe) for chunk in matches)])

    return look_up


def _select_digests(rows: "pa.Table", recipe: Recipe) -> "pa.Table":
    import pyarrow as pa

    columns = [rows["input_digest"], label_names.digest_targets(rows, recipe)]
    return pa.table(dict(zip(("input_digest", "target_digest"), columns, strict=True)))


class _NewRows(TypedDict):
    """Fields of a `Snapshot` about the rows since the last concluded run."""

    new: int
    accepted: int
    refused: int
    reasons: dict[str, int]
    data_docs: tuple[str, ...]


def _summarize_new_batches(home: Home) -> _NewRows:
    """Count the rows of the batches after the last concluded one; refused rows that were released count as accepted."""
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
    """Return the newest Delta version of the corpus.

    Raises:
        DataError: nothing has been ingested yet.
    """
    if not delta_tables.last_batch(home.corpus):
        raise DataError(f"{home.name} has no rows yet; run `evertune run` with the recipe first")
    return delta_tables.get_version(home.corpus)


def batch_of(home: Home, version: int) -> int:
    """Return the number of the newest batch in a version of the corpus.

    Raises:
        DataError: there is no such version.
    """
    return delta_tables.batch_of(home.corpus, version)


def _step_columns(home: Home) -> list[str]:
    objective_columns = list_own_columns(delta_tables.list_columns(home.corpus))
    key_columns = ["row_version", "row_key", "batch", "part", "split", "component"]
    return [*key_columns, *objective_columns, "id", "timestamp", "group", "source", "source_row"]
