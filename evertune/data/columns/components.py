"""Connected components: which rows belong together because something links them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BLOCK = 1 << 20  # numbers that are looked at at once: nothing as long as all of them is made


def label_components(size: int, pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
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


def resolve_components(rows: "pa.Table") -> "np.ndarray[Any, Any]":
    """Each row's component today: components that a later row joined have become one, named by their smallest id.

    Args:
        rows: `component` and `joins`, of every row version that there is.
    """
    import numpy as np

    own_components: np.ndarray[Any, Any] = rows["component"].to_numpy()
    joins = rows["joins"].combine_chunks()
    if len(joins) == joins.null_count:
        return own_components
    joined_ids = joins.flatten().to_numpy(zero_copy_only=False)
    counts = np.asarray(joins.value_lengths().fill_null(0))
    ids, codes = np.unique(np.concatenate([own_components, joined_ids]), return_inverse=True)
    pairs = np.column_stack([np.repeat(codes[: len(own_components)], counts), codes[len(own_components) :]])
    numbers = label_components(len(ids), pairs)
    smallest: np.ndarray[Any, Any] = np.full(numbers.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, numbers, ids)
    component_names: np.ndarray[Any, Any] = smallest[numbers[codes[: len(own_components)]]]
    return component_names


def link_equal_values(nodes: "np.ndarray[Any, Any]", values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Pairs that link all places with the same value, (k, 2).

    Args:
        places: node numbers; values: one a place.
    """
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    equal_indices = np.flatnonzero(ordered[1:] == ordered[:-1])
    return np.column_stack([nodes[order[equal_indices]], nodes[order[equal_indices + 1]]])


def find_repeated(
    keys: "np.ndarray[Any, Any]", fresh_count: int | None = None, *, can_overwrite: bool = False
) -> "np.ndarray[Any, Any]":
    """Positions of all keys that stand more than once, and perhaps of a few that do not: it sorts plain numbers once.

    Args:
        keys: 64 bits each, every one as good as random.
        fresh: of a repeated key one must stand at a lower position than this. Default: anywhere.
        spare: whether the keys are not needed any more: no copy is made then.
    """
    import numpy as np

    bits = np.uint64(len(keys).bit_length())
    packed = keys if can_overwrite else keys.copy()  # a key's upper bits, with its position below them
    packed >>= bits
    packed <<= bits
    equals_previous = np.zeros(len(keys) + 1, dtype=bool)
    for start in range(0, len(keys), BLOCK):
        packed[start : start + BLOCK] |= np.arange(start, min(start + BLOCK, len(keys)), dtype=np.uint64)
    packed.sort()
    for start in range(1, len(keys), BLOCK):
        block = packed[start : start + BLOCK]
        equals_previous[start : start + len(block)] = (block ^ packed[start - 1 : start - 1 + len(block)]) >> bits == 0
    repeated_slots = np.flatnonzero(equals_previous[1:] | equals_previous[:-1])
    group_starts = np.flatnonzero(~equals_previous[repeated_slots])
    positions = (packed[repeated_slots] & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    has_fresh = positions[group_starts] < (len(keys) if fresh_count is None else fresh_count)
    selected_positions: np.ndarray[Any, Any] = positions[
        np.repeat(has_fresh, np.diff(np.append(group_starts, len(repeated_slots))))
    ]
    return selected_positions


def sort_distinct(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Each value once, in order; numpy's `unique` hashes, which takes ten times as long where most are different."""
    import numpy as np

    ordered = np.sort(values)
    unique_values: np.ndarray[Any, Any] = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return unique_values


def mask_members(values: "np.ndarray[Any, Any]", others: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Which values are among the others."""
    import numpy as np

    if not len(values) or not len(others):
        return np.zeros(len(values), dtype=bool)
    ordered = np.sort(others)
    is_member = np.zeros(len(values), dtype=bool)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        is_member[start : start + BLOCK] = (
            ordered[np.minimum(np.searchsorted(ordered, block), len(ordered) - 1)] == block
        )
    return is_member
