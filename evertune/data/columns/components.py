"""Connected components of linked rows, and the array operations that find links."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BLOCK = 1 << 20  # numbers per block: temporary arrays stay this small, however many numbers there are


def label_components(size: int, pairs: "np.ndarray") -> "np.ndarray":
    """Return the component number of each of `size` nodes, (size,).

    Args:
        pairs: the linked nodes, (k, 2).
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), dtype=np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    numbers: np.ndarray = connected_components(graph, directed=False)[1]
    return numbers


def resolve_components(rows: "pa.Table") -> "np.ndarray":
    """Return each row's current component, (rows,).

    A later row may join components; those become one, named by the smallest of their ids.

    Args:
        rows: the columns `component` and `joins` of every stored row version.
    """
    import numpy as np

    own_components: np.ndarray = rows["component"].to_numpy()
    joins = rows["joins"].combine_chunks()
    if len(joins) == joins.null_count:
        return own_components
    joined_ids = joins.flatten().to_numpy(zero_copy_only=False)
    counts = np.asarray(joins.value_lengths().fill_null(0))
    ids, codes = np.unique(np.concatenate([own_components, joined_ids]), return_inverse=True)
    pairs = np.column_stack([np.repeat(codes[: len(own_components)], counts), codes[len(own_components) :]])
    numbers = label_components(len(ids), pairs)
    smallest: np.ndarray = np.full(numbers.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, numbers, ids)
    component_names: np.ndarray = smallest[numbers[codes[: len(own_components)]]]
    return component_names


def link_equal_values(nodes: "np.ndarray", values: "np.ndarray") -> "np.ndarray":
    """Return pairs that link all nodes with the same value, (k, 2).

    Args:
        nodes: node numbers, (n,).
        values: one value per node, (n,).
    """
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    equal_indices = np.flatnonzero(ordered[1:] == ordered[:-1])
    return np.column_stack([nodes[order[equal_indices]], nodes[order[equal_indices + 1]]])


def find_repeated(keys: "np.ndarray", fresh_count: int | None = None, *, can_overwrite: bool = False) -> "np.ndarray":
    """Return the positions of all keys that occur more than once, in no particular order.

    Each key's lowest bits make room for its position, so that one sort of plain integers groups equal keys. Keys that
    differ in these bits alone are reported too; there are few of them.

    Args:
        keys: 64-bit hashes, (n,).
        fresh_count: a repeated key counts only if one of its positions is below this. Default: it always counts.
        can_overwrite: whether `keys` may be destroyed, which saves a copy.
    """
    import numpy as np

    bits = np.uint64(len(keys).bit_length())
    packed = keys if can_overwrite else keys.copy()  # a key's upper bits, with its position below them
    packed >>= bits
    packed <<= bits
    for start in range(0, len(keys), BLOCK):
        packed[start : start + BLOCK] |= np.arange(start, min(start + BLOCK, len(keys)), dtype=np.uint64)
    packed.sort()

    equals_previous = np.zeros(len(keys) + 1, dtype=bool)
    for start in range(1, len(keys), BLOCK):
        block = packed[start : start + BLOCK]
        previous = packed[start - 1 : start - 1 + len(block)]
        equals_previous[start : start + len(block)] = (block ^ previous) >> bits == 0

    repeated_slots = np.flatnonzero(equals_previous[1:] | equals_previous[:-1])
    group_starts = np.flatnonzero(~equals_previous[repeated_slots])
    group_sizes = np.diff(np.append(group_starts, len(repeated_slots)))
    positions = (packed[repeated_slots] & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    # A group's positions are ascending, so the first one tells whether any of them is fresh.
    has_fresh = positions[group_starts] < (len(keys) if fresh_count is None else fresh_count)
    selected_positions: np.ndarray = positions[np.repeat(has_fresh, group_sizes)]
    return selected_positions


def sort_distinct(values: "np.ndarray") -> "np.ndarray":
    """Return the distinct values in ascending order.

    numpy's `unique` hashes, which takes ten times as long where most values differ.
    """
    import numpy as np

    ordered = np.sort(values)
    is_first = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    distinct_values: np.ndarray = ordered[is_first]
    return distinct_values


def mask_members(values: "np.ndarray", others: "np.ndarray") -> "np.ndarray":
    """Return which values are among the others, as a mask (n,)."""
    import numpy as np

    if not len(values) or not len(others):
        return np.zeros(len(values), dtype=bool)
    ordered = np.sort(others)
    is_member = np.zeros(len(values), dtype=bool)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        slots = np.minimum(np.searchsorted(ordered, block), len(ordered) - 1)
        is_member[start : start + BLOCK] = ordered[slots] == block
    return is_member
