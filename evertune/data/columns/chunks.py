"""Rows that are read in parts, whole columns at a time: few of them stand in memory at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evertune.data.columns.components import find_repeated
from evertune.data.columns.strings import hash_strings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

RowReader = Callable[[Sequence[str]], "Iterator[pa.Table]"]  # the named columns of all rows, in parts, in a fixed order


def make_row_reader(table: "pa.Table") -> RowReader:
    """The rows of a table, in one part."""

    def read_columns(names: Sequence[str]) -> "Iterator[pa.Table]":
        yield table.select(list(names))

    return read_columns


def rebatch(chunks: "Iterator[pa.Table]", size: int) -> "Iterator[pa.Table]":
    """The same rows in parts of at least `size`, but the last."""
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
    """The named columns of rows that stand in two places, in the same order."""
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


def read_numbers(reader: RowReader, name: str) -> "np.ndarray[Any, Any]":
    """A column of whole numbers without nulls."""
    import numpy as np

    return np.concatenate([np.zeros(0, dtype=np.int64), *(chunk[name].to_numpy() for chunk in reader([name]))])


def select_rows(reader: RowReader, names: Sequence[str], row_indices: "np.ndarray[Any, Any]") -> "Iterator[pa.Table]":
    """The named columns of the rows in these places, which are in order."""
    import numpy as np
    import pyarrow as pa

    start = 0
    for chunk in reader(names) if len(row_indices) else ():
        low, high = np.searchsorted(row_indices, [start, start + len(chunk)])
        if high > low:
            yield chunk.take(pa.array(row_indices[low:high] - start))
        start += len(chunk)


def select_strings(reader: RowReader, name: str, row_indices: "np.ndarray[Any, Any]") -> "pa.Array":
    """The named column of strings of the rows in these places, which are in order."""
    import pyarrow as pa

    chunks = [chunk[name].combine_chunks() for chunk in select_rows(reader, [name], row_indices)]
    return pa.concat_arrays([pa.array([], pa.string()), *chunks])


def find_repeated_strings(readers: Sequence[RowReader], name: str) -> "np.ndarray[Any, Any]":
    """Places of rows of the first side whose string may stand on another row too, and of these others, in order.

    Every row whose string does is among them. Rows of the second side are counted after those of the first.
    """
    import numpy as np

    hash_chunks = [np.zeros(0, dtype=np.uint64)]
    valid_masks = [np.zeros(0, dtype=bool)]
    size = 0
    for index, reader in enumerate(readers):
        for chunk in reader([name]):
            strings = chunk[name].combine_chunks()
            hash_chunks.append(hash_strings(strings.drop_null()))
            valid_masks.append(np.asarray(strings.is_valid()))
            size += len(hash_chunks[-1]) * (index == 0)
    keys = np.concatenate(hash_chunks)
    del hash_chunks
    repeated_indices = np.sort(find_repeated(keys, size, can_overwrite=True))
    is_valid = np.concatenate(valid_masks)
    return repeated_indices if is_valid.all() else np.flatnonzero(is_valid)[repeated_indices]
