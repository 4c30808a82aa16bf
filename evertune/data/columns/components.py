"""Connected components: which rows belong together because something links them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BLOCK = 1 << 20  # numbers that are looked at at once: nothing as long as all of them is made


def connected(size: int, pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The component number of each of `size` nodes.

    Args:
        pairs: linked nodes, (k, 2).
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), dtype=np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    numbers: np.ndarray[Any, Any] = connected_components(graph, directed=False)[1]
    return numbers


def canonical(rows: "pa.Table") -> "np.ndarray[Any, Any]":
    """Each row's component today: components that a later row joined have become one, named by their smallest id.

    Args:
        rows: `component` and `joins`, of every row version that there is.
    """
    import numpy as np

    own: np.ndarray[Any, Any] = rows["component"].to_numpy()
    joins = rows["joins"].combine_chunks()
    if len(joins) == joins.null_count:
        return own
    joined = joins.flatten().to_numpy(zero_copy_only=False)
    counts = np.asarray(joins.value_lengths().fill_null(0))
    ids, codes = np.unique(np.concatenate([own, joined]), return_inverse=True)
    pairs = np.column_stack([np.repeat(codes[: len(own)], counts), codes[len(own) :]])
    numbers = connected(len(ids), pairs)
    smallest: np.ndarray[Any, Any] = np.full(numbers.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, numbers, ids)
    named: np.ndarray[Any, Any] = smallest[numbers[codes[: len(own)]]]
    return named


def chained(places: "np.ndarray[Any, Any]", values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Pairs that link all places with the same value, (k, 2).

    Args:
        places: node numbers; values: one a place.
    """
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    return np.column_stack([places[order[same]], places[order[same + 1]]])


def repeated(keys: "np.ndarray[Any, Any]", fresh: int | None = None, *, spare: bool = False) -> "np.ndarray[Any, Any]":
    """Positions of all keys that stand more than once, and perhaps of a few that do not: it sorts plain numbers once.

    Args:
        keys: 64 bits each, every one as good as random.
        fresh: of a repeated key one must stand at a lower position than this. Default: anywhere.
        spare: whether the keys are not needed any more: no copy is made then.
    """
    import numpy as np

    bits = np.uint64(len(keys).bit_length())
    packed = keys if spare else keys.copy()  # a key's upper bits, with its position below them
    packed >>= bits
    packed <<= bits
    same = np.zeros(len(keys) + 1, dtype=bool)
    for start in range(0, len(keys), BLOCK):
        packed[start : start + BLOCK] |= np.arange(start, min(start + BLOCK, len(keys)), dtype=np.uint64)
    packed.sort()
    for start in range(1, len(keys), BLOCK):
        here = packed[start : start + BLOCK]
        same[start : start + len(here)] = (here ^ packed[start - 1 : start - 1 + len(here)]) >> bits == 0
    inside = np.flatnonzero(same[1:] | same[:-1])
    first = np.flatnonzero(~same[inside])
    position = (packed[inside] & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    met = position[first] < (len(keys) if fresh is None else fresh)
    chosen: np.ndarray[Any, Any] = position[np.repeat(met, np.diff(np.append(first, len(inside))))]
    return chosen


def distinct(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Each value once, in order; numpy's `unique` hashes, which takes ten times as long where most are different."""
    import numpy as np

    ordered = np.sort(values)
    found: np.ndarray[Any, Any] = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return found


def within(values: "np.ndarray[Any, Any]", others: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Which values are among the others."""
    import numpy as np

    if not len(values) or not len(others):
        return np.zeros(len(values), dtype=bool)
    ordered, hit = np.sort(others), np.zeros(len(values), dtype=bool)
    for start in range(0, len(values), BLOCK):
        here = values[start : start + BLOCK]
        hit[start : start + BLOCK] = ordered[np.minimum(np.searchsorted(ordered, here), len(ordered) - 1)] == here
    return hit
