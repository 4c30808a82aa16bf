"""Rows taken out of all that holds rows: the tables with their past, the staged batch, the rows of a stopped one."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.data.corpus import delta_log, delta_tables
from evertune.data.corpus.parquet_chunks import ChunkFile, explain_write_errors, read_notes, rows_of
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

Doomed = Callable[["pa.Table"], Any]  # (rows,) which rows of a table are to go


def iterate_all_rows(home: Home) -> "Iterator[tuple[str, pa.Table]]":
    """Every row that is kept, in parts with all columns, and where it stands: `corpus`, `quarantine` or `batches`."""
    for name, table in (("corpus", home.corpus), ("quarantine", home.quarantine)):
        if delta_tables.last_batch(table):
            for path in delta_tables.list_files(table):
                yield from ((name, chunk) for chunk in _read_chunks(path))
    for path in _list_waiting_files(home):
        yield from (("batches", chunk) for chunk in _read_chunks(path))


def remove_rows(home: Home, find_doomed: Doomed) -> None:
    """Take rows out of all that holds them; safe to repeat.

    Raises:
        DataError: a file cannot be written.
    """
    for path in _list_waiting_files(home):
        _rewrite_batch(path, find_doomed)
    for table in (home.quarantine, home.corpus):
        if delta_tables.last_batch(table):
            _rewrite_table(table, find_doomed)
            _drop_past(table)
            delta_log.remove_bounds(table)
    for leftover in home.batches.glob(".*.parquet"):  # of processes that were killed while they wrote
        leftover.unlink()


def _list_waiting_files(home: Home) -> list[Path]:
    """Files of rows that stand in no table (yet)."""
    return sorted(path for path in home.batches.glob("*.parquet") if not path.name.startswith((".", "judged")))


def _read_chunks(path: Path) -> "Iterator[pa.Table]":
    import pyarrow.parquet as pq

    return rows_of(path)(list(pq.read_schema(path).names))


def _rewrite_batch(path: Path, find_doomed: Doomed) -> None:
    file = ChunkFile(path.parent)
    try:
        removed_count = _copy_remaining(path, file, find_doomed)
        if removed_count and file.rows:
            file.publish_as(path, read_notes(path))
        elif removed_count:
            path.unlink()
    finally:
        file.drop_file()


def _copy_remaining(path: Path, file: ChunkFile, find_doomed: Doomed) -> int:
    """Write the rows of a file that stay; gives how many do not."""
    import pyarrow as pa

    removed_count = 0
    for chunk in _read_chunks(path):
        is_doomed = find_doomed(chunk)
        removed_count += int(is_doomed.sum())
        file.add_rows(chunk.filter(pa.array(~is_doomed)) if is_doomed.any() else chunk)
    return removed_count


def _rewrite_table(table: Path, find_doomed: Doomed) -> None:
    """One commit that replaces all files by ones without the rows; none where no row is to go."""
    from deltalake import DeltaTable

    files = delta_tables.list_files(table)
    rewritten_files = {path: ChunkFile(table, compression="snappy") for path in files}
    try:
        removed_counts = {
            path: _copy_remaining(path, file, find_doomed)
            for path, file in rewritten_files.items()
            if _holds_doomed(path, find_doomed)
        }
        if not removed_counts:
            return
        new_files = [_replace_file(path, rewritten_files[path] if path in removed_counts else None) for path in files]
        delta_table = DeltaTable(str(table))
        with explain_write_errors(table):
            delta_table.create_write_transaction(
                [delta_tables.make_add_action(path, rows) for path, rows in new_files],
                "overwrite",
                delta_table.schema(),
            )
    finally:
        for file in rewritten_files.values():
            file.drop_file()


def _holds_doomed(path: Path, find_doomed: Doomed) -> bool:
    return any(find_doomed(chunk).any() for chunk in _read_chunks(path))


def _replace_file(path: Path, rewritten: ChunkFile | None) -> tuple[Path, int]:
    """The file under a new name, rewritten or as it is, and its rows: a commit cannot both drop and add a name."""
    import pyarrow.parquet as pq

    new_path = path.with_name(f"{path.name.partition('-')[0]}-{uuid.uuid4().hex[:12]}.parquet")
    if rewritten is not None:
        rewritten.publish_as(new_path)
    else:
        with explain_write_errors(new_path):
            shutil.copyfile(path, new_path)
    return new_path, pq.read_metadata(new_path).num_rows


def _drop_past(table: Path) -> None:
    """Delete the files of older versions, and what killed processes left: time travel brings no row back."""
    current_files = set(delta_tables.list_files(table))
    for path in table.glob("*.parquet"):
        if path not in current_files:
            path.unlink()
