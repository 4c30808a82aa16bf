"""Rows taken out of all that holds rows: the tables with their past, the staged batch, the rows of a stopped one."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.data.corpus import delta_log, delta_tables
from evertune.data.corpus.parquet_chunks import PartsFile, notes_of, rows_of, writable
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

Doomed = Callable[["pa.Table"], Any]  # (rows,) which rows of a table are to go


def everywhere(home: Home) -> "Iterator[tuple[str, pa.Table]]":
    """Every row that is kept, in parts with all columns, and where it stands: `corpus`, `quarantine` or `batches`."""
    for name, table in (("corpus", home.corpus), ("quarantine", home.quarantine)):
        if delta_tables.last_batch(table):
            for path in delta_tables.files(table):
                yield from ((name, part) for part in _parts(path))
    for path in _waiting(home):
        yield from (("batches", part) for part in _parts(path))


def remove(home: Home, doomed: Doomed) -> None:
    """Take rows out of all that holds them; safe to repeat.

    Raises:
        DataError: a file cannot be written.
    """
    for path in _waiting(home):
        _rewrite_batch(path, doomed)
    for table in (home.quarantine, home.corpus):
        if delta_tables.last_batch(table):
            _rewrite_table(table, doomed)
            _drop_past(table)
            delta_log.without_bounds(table)
    for left in home.batches.glob(".*.parquet"):  # of processes that were killed while they wrote
        left.unlink()


def _waiting(home: Home) -> list[Path]:
    """Files of rows that stand in no table (yet)."""
    return sorted(path for path in home.batches.glob("*.parquet") if not path.name.startswith((".", "judged")))


def _parts(path: Path) -> "Iterator[pa.Table]":
    import pyarrow.parquet as pq

    return rows_of(path)(list(pq.read_schema(path).names))


def _rewrite_batch(path: Path, doomed: Doomed) -> None:
    file = PartsFile(path.parent)
    try:
        gone = _copied(path, file, doomed)
        if gone and file.rows:
            file.put(path, notes_of(path))
        elif gone:
            path.unlink()
    finally:
        file.drop()


def _copied(path: Path, file: PartsFile, doomed: Doomed) -> int:
    """Write the rows of a file that stay; gives how many do not."""
    import pyarrow as pa

    gone = 0
    for part in _parts(path):
        out = doomed(part)
        gone += int(out.sum())
        file.add(part.filter(pa.array(~out)) if out.any() else part)
    return gone


def _rewrite_table(table: Path, doomed: Doomed) -> None:
    """One commit that replaces all files by ones without the rows; none where no row is to go."""
    from deltalake import DeltaTable

    files = delta_tables.files(table)
    left = {path: PartsFile(table, compression="snappy") for path in files}
    try:
        gone = {path: _copied(path, file, doomed) for path, file in left.items() if _has(path, doomed)}
        if not gone:
            return
        new = [_replaced(path, left[path] if path in gone else None) for path in files]
        now = DeltaTable(str(table))
        with writable(table):
            now.create_write_transaction(
                [delta_tables.added(path, rows) for path, rows in new], "overwrite", now.schema()
            )
    finally:
        for file in left.values():
            file.drop()


def _has(path: Path, doomed: Doomed) -> bool:
    return any(doomed(part).any() for part in _parts(path))


def _replaced(path: Path, rewritten: PartsFile | None) -> tuple[Path, int]:
    """The file under a new name, rewritten or as it is, and its rows: a commit cannot both drop and add a name."""
    import pyarrow.parquet as pq

    new = path.with_name(f"{path.name.partition('-')[0]}-{uuid.uuid4().hex[:12]}.parquet")
    if rewritten is not None:
        rewritten.put(new)
    else:
        with writable(new):
            shutil.copyfile(path, new)
    return new, pq.read_metadata(new).num_rows


def _drop_past(table: Path) -> None:
    """Delete the files of older versions, and what killed processes left: time travel brings no row back."""
    now = set(delta_tables.files(table))
    for path in table.glob("*.parquet"):
        if path not in now:
            path.unlink()
