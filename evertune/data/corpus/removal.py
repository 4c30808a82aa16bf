"""Remove rows from the tables and their older versions, the staged batch, and the rows of a stopped batch."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.data.corpus import delta_log, delta_tables
from evertune.data.corpus.parquet_chunks import ChunkFile, explain_write_errors, read_notes, rows_of
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FindDoomed = Callable[["pa.Table"], "np.ndarray"]  # returns a mask (rows,) of the rows to remove


def iterate_all_rows(home: Home) -> "Iterator[tuple[str, pa.Table]]":
    """Yield every stored row, in chunks with all columns, with its location: `corpus`, `quarantine` or `batches`."""
    for name, table in (("corpus", home.corpus), ("quarantine", home.quarantine)):
        if delta_tables.last_batch(table):
            for path in delta_tables.list_files(table):
                yield from ((name, chunk) for chunk in _read_chunks(path))
    for path in _list_waiting_files(home):
        yield from (("batches", chunk) for chunk in _read_chunks(path))


def remove_rows(home: Home, find_doomed: FindDoomed) -> None:
    """Remove rows from all files that hold them; safe to repeat.

    Args:
        find_doomed: returns which rows of a table to remove, as a mask.
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
    """Return the files of rows that are in no table yet."""
    return sorted(path for path in home.batches.glob("*.parquet") if not path.name.startswith((".", "judged")))


def _read_chunks(path: Path) -> "Iterator[pa.Table]":
    import pyarrow.parquet as pq

    return rows_of(path)(list(pq.read_schema(path).names))


def _rewrite_batch(path: Path, find_doomed: FindDoomed) -> None:
    file = ChunkFile(path.parent)
    try:
        removed_count = _copy_remaining(path, file, find_doomed)
        if removed_count and file.rows:
            file.publish_as(path, read_notes(path))
        elif removed_count:
            path.unlink()
    finally:
        file.drop_file()


def _copy_remaining(path: Path, file: ChunkFile, find_doomed: FindDoomed) -> int:
    """Write the rows that stay to `file`; return how many do not."""
    import pyarrow as pa

    removed_count = 0
    for chunk in _read_chunks(path):
        is_doomed = find_doomed(chunk)
        removed_count += int(is_doomed.sum())
        file.add_rows(chunk.filter(pa.array(~is_doomed)) if is_doomed.any() else chunk)
    return removed_count


def _rewrite_table(table: Path, find_doomed: FindDoomed) -> None:
    """Replace all files by ones without the rows, in one commit; nothing is committed if there is no row to remove."""
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


def _holds_doomed(path: Path, find_doomed: FindDoomed) -> bool:
    return any(find_doomed(chunk).any() for chunk in _read_chunks(path))


def _replace_file(path: Path, rewritten: ChunkFile | None) -> tuple[Path, int]:
    """Copy the file, or its rewritten form, to a new name, since a commit cannot both remove and add a name.

    Returns:
        The new path and its number of rows.
    """
    import pyarrow.parquet as pq

    new_path = path.with_name(f"{path.name.partition('-')[0]}-{uuid.uuid4().hex[:12]}.parquet")
    if rewritten is not None:
        rewritten.publish_as(new_path)
    else:
        with explain_write_errors(new_path):
            shutil.copyfile(path, new_path)
    return new_path, pq.read_metadata(new_path).num_rows


def _drop_past(table: Path) -> None:
    """Delete the files of older versions and leftovers of killed processes, so that time travel brings no row back."""
    current_files = set(delta_tables.list_files(table))
    for path in table.glob("*.parquet"):
        if path not in current_files:
            path.unlink()
