"""Connected components: which rows belong together because something links them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


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


def chained(codes: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Pairs that link every position with the first one of the same code.

    Args:
        codes: one integer a position; negative ones link nothing.
    """
    import numpy as np

    places = np.flatnonzero(codes >= 0)
    _, first, inverse = np.unique(codes[places], return_index=True, return_inverse=True)
    return np.column_stack([places, places[first[inverse]]])
