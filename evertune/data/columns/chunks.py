"""Read rows chunk by chunk and column by column, so that few of them are in memory at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from evertune.data.columns.components import find_repeated
from evertune.data.columns.strings import hash_strings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# Called with column names, it yields these columns of all rows as chunks, always in the same order.
RowReader = Callable[[Sequence[str]], "Iterator[pa.Table]"]


def make_row_reader(table: "pa.Table") -> RowReader:
    """Return a reader that yields the rows of a table as one chunk."""

    def read_columns(names: Sequence[str]) -> "Iterator[pa.Table]":
        yield table.select(list(names))

    return read_columns


def rebatch(chunks: "Iterator[pa.Table]", size: int) -> "Iterator[pa.Table]":
    """Yield the same rows in chunks of at least `size` rows; only the last one may be smaller."""
    import pyarrow as pa

    pending: list[pa.Table] = []
    for chunk in chunks:
        pending.append(chunk)
        if sum(map(len, pending)) >= size:
            yield pa.concat_tables(pending)
            pending = []
    if pending:
        yield pa.concat_tables(pending)


def zip_columns(
    reader: RowReader, names: Sequence[str], other_reader: RowReader, other_names: Sequence[str]
) -> "Iterator[pa.Table]":
    """Yield the named columns of rows that two readers hold in the same order, side by side."""
    import pyarrow as pa

    other_chunks = other_reader(other_names)
    buffer = None
    for chunk in reader(names):
        while buffer is None or len(buffer) < len(chunk):
            next_chunk = next(other_chunks)
            buffer = next_chunk if buffer is None else pa.concat_tables([buffer, next_chunk])
        for name in other_names:
            chunk = chunk.append_column(name, buffer[name].slice(0, len(chunk)))
        buffer = buffer.slice(len(chunk))
        yield chunk


def read_numbers(reader: RowReader, name: str) -> "np.ndarray":
    """Return a whole column of integers without nulls, (rows,)."""
    import numpy as np

    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *(chunk[name].to_numpy() for chunk in reader([name]))])


def select_rows(reader: RowReader, names: Sequence[str], row_indices: "np.ndarray") -> "Iterator[pa.Table]":
    """Yield the named columns of the selected rows.

    Args:
        row_indices: positions of the rows among all rows, ascending.
    """
    import numpy as np
    import pyarrow as pa

    if not len(row_indices):
        return
    start = 0
    for chunk in reader(names):
        low, high = np.searchsorted(row_indices, [start, start + len(chunk)])
        if high > low:
            yield chunk.take(pa.array(row_indices[low:high] - start))
        start += len(chunk)


def select_strings(reader: RowReader, name: str, row_indices: "np.ndarray") -> "pa.Array":
    """Return a column of strings of the selected rows.

    Args:
        row_indices: positions of the rows among all rows, ascending.
    """
    import pyarrow as pa

    chunks = [chunk[name].combine_chunks() for chunk in select_rows(reader, [name], row_indices)]
    return pa.concat_arrays([pa.array([], pa.string()), *chunks])


def find_repeated_strings(readers: Sequence[RowReader], name: str) -> "np.ndarray":
    """Return the sorted positions of rows whose string occurs more than once, at least once in the first reader.

    The search compares hashes: every such row is found, and a few others may be. Nulls never match. Positions count on
    from one reader to the next.
    """
    import numpy as np

    hash_chunks = [np.zeros(0, dtype=np.uint64)]
    valid_masks = [np.zeros(0, dtype=bool)]
    first_count = 0
    for index, reader in enumerate(readers):
        for chunk in reader([name]):
            strings = chunk[name].combine_chunks()
            hashes = hash_strings(strings.drop_null())
            hash_chunks.append(hashes)
            valid_masks.append(np.asarray(strings.is_valid()))
            if index == 0:
                first_count += len(hashes)
    keys = np.concatenate(hash_chunks)
    del hash_chunks
    repeated_indices = np.sort(find_repeated(keys, first_count, can_overwrite=True))
    is_valid = np.concatenate(valid_masks)
    return repeated_indices if is_valid.all() else np.flatnonzero(is_valid)[repeated_indices]
