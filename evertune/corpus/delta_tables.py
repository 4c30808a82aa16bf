"""Delta tables that take each numbered batch exactly once."""

import functools
import json
import logging
import operator
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.corpus import parts_file
from evertune.corpus.parts_file import PartsFile
from evertune.errors import DataError
from evertune.parallel import ahead
from evertune.parts import Rows

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake.transaction import AddAction

APPLICATION = "evertune"  # the name under which a commit carries its batch number
ATTEMPTS = 5
log = logging.getLogger(__name__)


def last_batch(path: Path) -> int:
    """Number of the newest batch that the table has; 0 where there is no table yet."""
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(str(path)):
        return 0
    return DeltaTable(str(path)).transaction_version(APPLICATION) or 0


def append_once(path: Path, rows: Rows, names: list[str], number: int) -> None:
    """Append a batch in one commit that carries its number; a table that has the batch stays as it is.

    Args:
        rows: reads the rows; names: of their columns.
    Raises:
        DataError: the table cannot be written.
    """
    from deltalake import CommitProperties, DeltaTable, Transaction
    from deltalake.exceptions import CommitFailedError

    carries_number = CommitProperties(app_transactions=[Transaction(APPLICATION, number)])
    schema = next(rows(names)).schema
    added = None
    try:
        for _attempt in range(ATTEMPTS):
            table = DeltaTable.create(str(path), schema=schema, mode="ignore")
            if (table.transaction_version(APPLICATION) or 0) >= number:
                return
            added = _written(path, rows, names, number) if added is None else added
            try:
                table.create_write_transaction(added, "append", schema, commit_properties=carries_number)
                return
            except CommitFailedError as conflict:  # another writer was faster: look again whether it was our batch
                log.warning("%s: a commit conflicted and is tried again: %s", path, conflict)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error}; free some space or mend its rights, and run again"
        ) from error
    raise DataError(f"{path}: {ATTEMPTS} commits conflicted with another writer's; wait until it ends and run again")


def _written(path: Path, rows: Rows, names: list[str], number: int) -> "list[AddAction]":
    """The rows as a file in the table's folder, not yet of the table; what is to be added to it.

    Its own writer took three times the time for rows such as these, and held them in memory.
    """
    from deltalake.transaction import AddAction

    file = PartsFile(path, compression="snappy")  # what every reader of Delta tables knows
    try:
        for part in ahead(rows(names)):
            file.add(part)
        if not file.rows:
            return []
        name = f"{number:06d}-{uuid.uuid4().hex[:12]}.parquet"
        file.put(path / name)
        state = (path / name).stat()
        stats = json.dumps({"numRecords": file.rows})
        return [AddAction(name, state.st_size, {}, int(state.st_mtime * 1000), True, stats)]
    finally:
        file.drop()


def read(
    path: Path,
    columns: list[str] | None = None,
    version: int | None = None,
    since: int | None = None,
    versions: list[str] | None = None,
) -> "pa.Table":
    """Rows of a table, in no given order.

    Args:
        since: only rows of later batches than this.
        versions: only rows with these row versions.
    Raises:
        DataError: there is no table at `path`, or not in that version.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(str(path), version=version)
        # Its own reader, `to_pyarrow_table`, leaves threads behind that abort a process which ends soon after.
        files = [str(path / uri.rpartition("/")[2]) for uri in table.file_uris()]
        found = ds.dataset(files, schema=pa.schema(table.schema().to_arrow()), format="parquet")
        wanted = [pc.field("batch") > since] if since is not None else []
        wanted += [pc.field("row_version").isin(versions)] if versions is not None else []
        where = functools.reduce(operator.and_, wanted) if wanted else None
        return found.to_table(columns=columns, filter=where)
    except (DeltaError, FileNotFoundError) as error:
        which = "no readable table" if version is None else f"no readable version {version} of the table"
        raise DataError(f"{path}: {which} ({error}); run `evertune run` first, or restore the folder") from error


def rows_of(path: Path, version: int | None = None) -> Rows:
    """Reads the rows of a table at a version: always in the same order. A table that is not there has no rows."""
    if not last_batch(path):
        return parts_file.rows_of()
    from deltalake import DeltaTable

    uris = DeltaTable(str(path), version=version).file_uris()
    return parts_file.rows_of(*(path / uri.rpartition("/")[2] for uri in uris))


def version(path: Path) -> int:
    """The newest version of the table at `path`."""
    from deltalake import DeltaTable

    return int(DeltaTable(str(path)).version())
