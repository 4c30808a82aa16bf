"""Rows that are right or wrong together: their sums, and how many independent rows they are worth."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def sum_by_group(stats: NDArray[Any], groups: NDArray[Any]) -> NDArray[Any]:
    """Statistics (rows, m) added up by group, (groups, m); as they are where every row stands alone.

    Args:
        groups: (rows,) the number of each row's group.
    """
    numbers, starts = np.unique(np.sort(groups), return_index=True)
    if len(numbers) == len(groups):
        return stats
    order = np.argsort(groups, kind="stable")
    return np.asarray(np.add.reduceat(stats[order], starts, axis=0, dtype=np.float64))


def count_effective_rows(groups: NDArray[Any]) -> float:
    """The rows that as many rows are worth if those of one group are always right or wrong together (Kish 1965).

    The worst case, not an estimate: how alike a group's rows are shows itself only where rows differ, and where none
    does, a guess from the data would let a few groups prove what only many rows can.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    return float(len(groups) ** 2 / (sizes**2).sum())
