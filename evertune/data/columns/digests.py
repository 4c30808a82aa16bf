"""Digests by which cells are compared: equal values have equal digests, on every machine."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

UNIT_SEPARATOR = "\x1f"  # joins a list's items before hashing; a contract refuses it inside a token
GROUP_SEPARATOR = "\x1d"  # joins the inputs of a row
PROBE = 1000  # values that are inspected to see whether a column repeats a few of them


def join_lists(column: "pa.Array | pa.ChunkedArray") -> "pa.Array | pa.ChunkedArray":
    """Return a column of lists with each list joined to a string, a column of strings unchanged.

    A list with a missing item becomes a missing value.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join(column, UNIT_SEPARATOR) if pa.types.is_list(column.type) else column


def join_columns(columns: "Sequence[pa.Array | pa.ChunkedArray]") -> "pa.Array | pa.ChunkedArray":
    """Return several columns joined to one of strings, a single column unchanged.

    A row in which one of the values is missing becomes a missing value.
    """
    import pyarrow.compute as pc

    if len(columns) == 1:
        return columns[0]
    return pc.binary_join_element_wise(*map(join_lists, columns), GROUP_SEPARATOR)


def digest_values(column: "pa.Array | pa.ChunkedArray") -> "pa.Array":
    """Return 64 bits of BLAKE2b of each value as an integer, null for null.

    Args:
        column: strings or lists of strings.
    """
    import pyarrow as pa

    texts = join_lists(column)
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if len(texts.slice(0, PROBE).unique()) < PROBE // 2:  # few distinct values, such as labels: hash each of them once
        encoded = texts.dictionary_encode()
        return _digest_each(encoded.dictionary).take(encoded.indices)
    return _digest_each(texts)


def _digest_each(texts: "pa.Array") -> "pa.Array":
    import numpy as np
    import pyarrow as pa

    digest_numbers = np.frombuffer(hash_texts(texts.fill_null(""), 8), dtype="<i8")
    null_mask = np.asarray(texts.is_null()) if texts.null_count else None
    return pa.array(digest_numbers, pa.int64(), mask=null_mask)


def hash_texts(texts: "pa.Array", size: int) -> bytes:
    """Return the BLAKE2b hash of each text, `size` bytes each, concatenated."""
    import pyarrow as pa

    text_hashes = list[bytes]()
    copy_empty_state = hashlib.blake2b(digest_size=size).copy
    for value in texts.cast(pa.binary()).to_pylist():
        state = copy_empty_state()  # takes two thirds of the time of making a new one
        state.update(value)
        text_hashes.append(state.digest())
    return b"".join(text_hashes)
