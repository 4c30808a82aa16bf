"""Hashes of Arrow strings and of parts of them, computed on their buffers without a Python object per string."""

import functools
import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
# sizes of the cached tables of powers; building a table takes longer than using it
TABLES = (1 << 10, 1 << 14, 1 << 18, 1 << 21)
WIDE = 64  # bytes; strings that all have one length up to this are hashed byte position by byte position
SLICE = 1 << 20  # bytes of text per step: their 64-bit numbers stay in the processor's cache


def slice_texts(texts: "pa.Array") -> "Iterator[pa.Array]":
    """Yield the array in slices of at most `SLICE` bytes, or of one string where that is longer."""
    import numpy as np

    ends = get_offsets(texts)
    start = 0
    while start < len(texts):
        stop = int(np.searchsorted(ends, ends[start] + SLICE, side="right")) - 1
        stop = max(stop, start + 1)
        yield texts.slice(start, stop - start)
        start = stop


def get_offsets(texts: "pa.Array") -> "np.ndarray":
    """Return where each string begins in the array's buffer, and where the last one ends, (n + 1,)."""
    import numpy as np

    if not len(texts):
        return np.zeros(1, dtype=np.int32)
    return np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]


def get_text_bytes(texts: "pa.Array") -> "tuple[np.ndarray, np.ndarray]":
    """Return the concatenated bytes of all strings, and their offsets in these: each begin, and the last end."""
    import numpy as np

    ends = get_offsets(texts)
    data = texts.buffers()[2] if len(texts) else None
    if data is None or ends[-1] == ends[0]:
        return np.zeros(0, dtype=np.uint8), np.zeros(len(texts) + 1, dtype=np.int64)
    return np.frombuffer(data, dtype=np.uint8)[ends[0] : ends[-1]], ends.astype(np.int64) - ends[0]


def mask_equal(texts: "pa.Array | pa.ChunkedArray", value: str) -> "np.ndarray":
    """Return which of the strings equal `value`, as a mask (n,).

    Args:
        texts: strings without nulls.
    """
    import numpy as np
    import pyarrow.compute as pc

    mask: np.ndarray = np.array(pc.equal(texts, value))
    return mask


def hash_parts(data: "np.ndarray", starts: "np.ndarray", ends: "np.ndarray") -> "np.ndarray":
    """Return a 64-bit hash of each part of the bytes, (parts,).

    The hash is a polynomial of the part's bytes (Karp and Rabin 1987), the difference of two prefix sums, then mixed.

    Args:
        data: all bytes, as uint8.
        starts, ends: offsets of the parts in `data`; parts may overlap.
    """
    import numpy as np

    table_size = next((size for size in TABLES if size > len(data)), 1 << len(data).bit_length())
    powers, inverses = _compute_powers(table_size)
    sums = np.zeros(len(data) + 1, dtype=np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * powers[: len(data)], out=sums[1:])
    return mix_bits((sums[ends] - sums[starts]) * inverses[starts])


def hash_strings(texts: "pa.Array") -> "np.ndarray":
    """Return a 64-bit hash of each string, (n,); null hashes as the empty string."""
    import numpy as np

    hash_chunks = [np.zeros(0, dtype=np.uint64)]
    for text_slice in slice_texts(texts):
        data, ends = get_text_bytes(text_slice)
        width = int(ends[1]) if len(text_slice) else 0
        has_one_width = 0 < width <= WIDE and bool((np.diff(ends) == width).all())
        if has_one_width:
            hash_chunks.append(_hash_rows(data.reshape(-1, width)))
        else:
            hash_chunks.append(hash_parts(data, ends[:-1], ends[1:]))
    return np.concatenate(hash_chunks)


def _hash_rows(rows: "np.ndarray") -> "np.ndarray":
    """Hash strings of one length, such as row versions: the same values as `hash_parts`, in a quarter of the time.

    Args:
        rows: the bytes of the strings, (n, length).
    """
    import numpy as np

    powers = _compute_powers(TABLES[0])[0]
    row_hashes = np.zeros(len(rows), dtype=np.uint64)
    for position in range(rows.shape[1]):
        row_hashes += (rows[:, position].astype(np.uint64) + np.uint64(1)) * powers[position]
    return mix_bits(row_hashes)


def digest_list(arrays: "Iterable[pa.Array]") -> str:
    """Return what `records.compute_digest` returns for the list of all strings of the arrays.

    Args:
        arrays: strings without characters that JSON escapes.
    """
    import pyarrow.compute as pc

    state = hashlib.blake2b(b"[[", digest_size=16)
    is_first = True
    for array in arrays:
        if len(array):
            members = get_text_bytes(pc.binary_join_element_wise(',"', array, '"', ""))[0].tobytes()
            state.update(members[1:] if is_first else members)
            is_first = False
    state.update(b"]]")
    return state.hexdigest()


def mix_bits(values: "np.ndarray") -> "np.ndarray":
    """Return the values mixed, so that every output bit depends on every input bit (splitmix64, Steele et al. 2014)."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


@functools.lru_cache(maxsize=4)
def _compute_powers(count: int) -> "tuple[np.ndarray, np.ndarray]":
    """Return the first `count` powers of `BASE`, and of its inverse, modulo 2**64."""
    import numpy as np

    power_tables = []
    for base in (BASE, pow(BASE, -1, 1 << 64)):
        powers = np.full(count, base, dtype=np.uint64)
        powers[0] = 1
        power_tables.append(np.multiply.accumulate(powers))
    return power_tables[0], power_tables[1]
