"""Digests of cells, by which values are compared: equal values, equal digest, on every machine."""

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

UNIT_SEPARATOR = "\x1f"  # joins a list's items before hashing; a contract refuses it inside a token
GROUP_SEPARATOR = "\x1d"  # joins the inputs of a row
FEW = 1000  # values that are looked at to see whether they repeat


def join_lists(column: Any) -> Any:
    """A column of strings as it is, a column of lists with each list joined; a missing item makes the whole missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join(column, UNIT_SEPARATOR) if pa.types.is_list(column.type) else column


def join_columns(columns: "list[Any]") -> Any:
    """A column as it is; of several their values together, missing where one of them is."""
    import pyarrow.compute as pc

    if len(columns) == 1:
        return columns[0]
    return pc.binary_join_element_wise(*map(join_lists, columns), GROUP_SEPARATOR)


def digest_values(column: Any) -> "pa.Array":
    """64 bits of BLAKE2b of each value, null for null: equal values, equal digest, on every machine."""
    import pyarrow as pa

    texts = join_lists(column)
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if len(texts.slice(0, FEW).unique()) < FEW // 2:  # labels: the same few again and again
        coded = texts.dictionary_encode()
        return _digest_each(coded.dictionary).take(coded.indices)
    return _digest_each(texts)


def _digest_each(texts: "pa.Array") -> "pa.Array":
    """`digests`, each value for itself."""
    import numpy as np
    import pyarrow as pa

    digest_numbers = np.frombuffer(hash_texts(texts.fill_null(""), 8), dtype="<i8")
    return pa.array(digest_numbers, pa.int64(), mask=np.asarray(texts.is_null()) if texts.null_count else None)


def hash_texts(texts: "pa.Array", size: int) -> bytes:
    """BLAKE2b of each text, `size` bytes each, one behind the other."""
    import pyarrow as pa

    text_hashes = list[bytes]()
    new_state = hashlib.blake2b(digest_size=size).copy
    for value in texts.cast(pa.binary()).to_pylist():
        state = new_state()  # a copy of an empty one is made in two thirds of the time
        state.update(value)
        text_hashes.append(state.digest())
    return b"".join(text_hashes)
