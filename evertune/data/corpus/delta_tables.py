"""Append each numbered batch to a Delta table exactly once, and read the table at any version."""

import functools
import json
import logging
import operator
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from evertune.data.columns.chunks import RowReader
from evertune.data.corpus import parquet_chunks
from evertune.data.corpus.parquet_chunks import ChunkFile
from evertune.errors import DataError
from evertune.runtime.threads import iterate_ahead

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction

APPLICATION = "evertune"  # the name under which a commit carries its batch number
ATTEMPTS = 5
# Without the first setting old versions vanish 30 days later, at a checkpoint. The second keeps the lowest and highest
# text of a file out of the log, which Delta's compaction writes by default and `forget` would have to remove.
SETTINGS = {"delta.enableExpiredLogCleanup": "false", "delta.dataSkippingNumIndexedCols": "0"}
MANY = 32  # small files, one per batch, that are merged: each read of the table would open all of them
SMALL = 16 << 20  # bytes: larger files stay as they are
GROUP = 10_000  # rows that are read together, so that reading the newest batches reads few others
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _OpenTable:
    """A table as this process read it last.

    Args:
        table: at its newest version then.
        commit: inode and time of that version's log entry, which differ for another table at the same path.
    """

    table: "DeltaTable"
    commit: tuple[int, int]


_open_tables: dict[Path, _OpenTable] = {}


def _open_newest(path: Path) -> "DeltaTable | None":
    """Return the table at its newest version, read again only if its log has grown; None if there is no table."""
    from deltalake import DeltaTable

    cached = _open_tables.get(path)
    if cached is not None:
        number = cached.table.version()
        if _identify_commit(path, number) == cached.commit and _identify_commit(path, number + 1) is None:
            return cached.table
    if not DeltaTable.is_deltatable(str(path)):
        return None
    return _cache_table(path, DeltaTable(str(path)))


def _cache_table(path: Path, table: "DeltaTable") -> "DeltaTable":
    commit = _identify_commit(path, table.version())
    if commit is not None:
        _open_tables[path] = _OpenTable(table, commit)
    return table


def _identify_commit(path: Path, number: int) -> tuple[int, int] | None:
    try:
        status = (path / "_delta_log" / f"{number:020d}.json").stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _require_table(path: Path) -> "DeltaTable":
    """Return the table at its newest version.

    Raises:
        DataError: there is no such table.
    """
    table = _open_newest(path)
    if table is None:
        raise DataError(f"{path}: no readable table; run `evertune run` first, or restore the folder")
    return table


def _find_batch_limit(path: Path, version: int | None) -> int | None:
    """Return the newest batch of a version of the table; None for the newest version, which has all batches.

    Rows are only ever added, batch by batch: an older version consists of the batches up to one, even if its own files
    were merged.

    Raises:
        DataError: there is no such table.
        DeltaError: it has no such version.
    """
    from deltalake import DeltaTable

    if version is None or version == _require_table(path).version():
        return None
    return DeltaTable(str(path), version=version).transaction_version(APPLICATION) or 0


def last_batch(path: Path) -> int:
    """Return the number of the newest batch that the table has; 0 if there is no table yet."""
    table = _open_newest(path)
    return 0 if table is None else table.transaction_version(APPLICATION) or 0


def list_columns(path: Path) -> list[str]:
    """Return the names of the table's columns."""
    return [field.name for field in _require_table(path).schema().fields]


def compact_files(path: Path) -> None:
    """Merge many small files into one, in a commit that changes no row; older versions stay readable.

    Raises:
        DataError: the table cannot be written.
    """
    from deltalake import WriterProperties
    from deltalake.exceptions import CommitFailedError

    table = _open_newest(path)
    if table is None or sum(file["size_bytes"] < SMALL / 2 for file in _list_file_actions(table)) < MANY:
        return
    try:
        with parquet_chunks.explain_write_errors(path):
            missing = SETTINGS.items() - table.metadata().configuration.items()
            if missing:  # the table was made by an older Evertune version
                table.alter.set_table_properties(dict(missing))
            table.optimize.compact(target_size=SMALL, writer_properties=WriterProperties(max_row_group_size=GROUP))
        _cache_table(path, table)
    except CommitFailedError as conflict:  # another writer was faster: the next batch tries again
        logger.warning("%s: small files were not merged: %s", path, conflict)


def vacuum_table(path: Path, days: int, *, remove: bool) -> list[Path]:
    """Return the files in the table's folder that its newest version does not need.

    Args:
        days: least age of a file.
        remove: whether to delete them.
    Raises:
        DataError: they cannot be removed.
    """
    table = _open_newest(path)
    if table is None:
        return []
    options: dict[str, Any] = {"retention_hours": 24 * days, "enforce_retention_duration": False, "full": True}
    spare_files = [path / name for name in table.vacuum(dry_run=True, **options) if (path / name).exists()]
    if remove and spare_files:
        try:
            table.vacuum(dry_run=False, **options)
            _cache_table(path, table)
        except OSError as error:
            raise DataError(
                f"{path}: old files cannot be removed: {error}; fix its permissions, and run again"
            ) from error
    return spare_files


class _FileAction(TypedDict):
    """What a table's log says of a file of its newest version; more keys are not read."""

    size_bytes: int


def _list_file_actions(table: "DeltaTable") -> "list[_FileAction]":
    import pyarrow as pa

    actions: list[_FileAction] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return actions


def append_once(path: Path, rows: RowReader, names: list[str], number: int) -> None:
    """Append a batch in one commit that carries its number; a table that has the batch does not change.

    Args:
        rows: reads the rows.
        names: their columns.
        number: of the batch.
    Raises:
        DataError: the table cannot be written.
    """
    from deltalake import CommitProperties, DeltaTable, Transaction
    from deltalake.exceptions import CommitFailedError

    carries_number = CommitProperties(app_transactions=[Transaction(APPLICATION, number)])
    schema = next(rows(names)).schema
    actions = None
    try:
        for _attempt in range(ATTEMPTS):
            table = _open_newest(path) or DeltaTable.create(
                str(path), schema=schema, mode="ignore", configuration=SETTINGS
            )
            if (table.transaction_version(APPLICATION) or 0) >= number:
                return
            actions = _write_file(path, rows, names, number) if actions is None else actions
            try:
                table.create_write_transaction(actions, "append", schema, commit_properties=carries_number)
                _cache_table(path, table)
                return
            except CommitFailedError as conflict:  # another writer was faster, perhaps with the same batch
                logger.warning("%s: retrying a commit that conflicted with another writer: %s", path, conflict)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error}; free some disk space or fix its permissions, and run again"
        ) from error
    raise DataError(f"{path}: {ATTEMPTS} commits conflicted with another writer; wait until it finishes and run again")


def _write_file(path: Path, rows: RowReader, names: list[str], number: int) -> "list[AddAction]":
    """Write the rows to a file in the table's folder and return the actions that add it to the table.

    The table's own writer takes three times as long for such rows, and holds them in memory.
    """
    for leftover in path.glob(f"{number:06d}-*.parquet"):  # of a process that was killed before its commit
        leftover.unlink()
    file = ChunkFile(path, compression="snappy")  # every reader of Delta tables can read it
    try:
        for chunk in iterate_ahead(rows(names)):
            file.add_rows(chunk)
        if not file.rows:
            return []
        name = f"{number:06d}-{uuid.uuid4().hex[:12]}.parquet"
        file.publish_as(path / name)
        return [make_add_action(path / name, file.rows)]
    finally:
        file.drop_file()


def make_add_action(file: Path, rows: int) -> "AddAction":
    """Return the action of a commit that adds a file in the table's folder."""
    from deltalake.transaction import AddAction

    state = file.stat()
    stats = json.dumps({"numRecords": rows})
    return AddAction(file.name, state.st_size, {}, int(state.st_mtime * 1000), True, stats)


def read_rows(
    path: Path,
    columns: list[str] | None = None,
    version: int | None = None,
    since: int | None = None,
    versions: list[str] | None = None,
    until: int | None = None,
) -> "pa.Table":
    """Return rows of a table, in no given order.

    Args:
        columns: those to read. Default: all.
        version: Delta version of the table. Default: the newest.
        since: only rows of later batches than this.
        versions: only rows with these row versions.
        until: no rows of later batches than this.
    Raises:
        DataError: there is no table at `path`, or not in that version.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    from deltalake.exceptions import DeltaError

    try:
        table = _require_table(path)
        batch_limit = _find_batch_limit(path, version)
        # The table's own `to_pyarrow_table` leaves threads behind that abort a process which ends soon after.
        schema = pa.schema(table.schema().to_arrow())
        paths = [str(file) for file in list_files(path)]
        dataset = ds.dataset(paths, schema=schema, format="parquet")
        conditions = [pc.field("batch") <= limit for limit in (until, batch_limit) if limit is not None]
        if since is not None:
            conditions.append(pc.field("batch") > since)
        if versions is not None:
            conditions.append(pc.field("row_version").isin(versions))
        condition = functools.reduce(operator.and_, conditions) if conditions else None
        return dataset.to_table(columns=columns, filter=condition)
    except (DeltaError, FileNotFoundError) as error:
        problem = "no readable table" if version is None else f"no readable version {version} of the table"
        raise DataError(f"{path}: {problem} ({error}); run `evertune run` first, or restore the folder") from error


def rows_of(path: Path, version: int | None = None) -> RowReader:
    """Return a reader of the rows of a table at a version, always in the same order; no rows if there is no table."""
    if not last_batch(path):
        return parquet_chunks.rows_of()
    batch_limit = _find_batch_limit(path, version)
    read_all = parquet_chunks.rows_of(*list_files(path))

    def read_until(names: "Sequence[str]") -> "Iterator[pa.Table]":
        import pyarrow.compute as pc

        for chunk in read_all(list(dict.fromkeys([*names, "batch"]))):
            yield chunk.filter(pc.less_equal(chunk["batch"], batch_limit)).select(list(names))

    return read_all if batch_limit is None else read_until


def list_files(path: Path) -> list[Path]:
    """Return the files that hold the table's rows."""
    return [path / uri.rpartition("/")[2] for uri in _require_table(path).file_uris()]


def batch_of(path: Path, version: int) -> int:
    """Return the number of the newest batch in a version of the table.

    Raises:
        DataError: there is no such version.
    """
    from deltalake.exceptions import DeltaError

    try:
        batch_limit = _find_batch_limit(path, version)
    except (DeltaError, OSError) as error:
        raise DataError(f"{path}: no readable version {version} of the table ({error})") from error
    return last_batch(path) if batch_limit is None else batch_limit


def get_version(path: Path) -> int:
    """Return the newest version of the table at `path`.

    Raises:
        DataError: there is no such table.
    """
    return int(_require_table(path).version())
