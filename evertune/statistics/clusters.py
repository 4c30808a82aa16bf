"""Groups of rows that are not independent: their sums, and their effective number of rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def sum_by_group(stats: NDArray[Any], groups: NDArray[Any]) -> NDArray[Any]:
    """Sum statistics by group: (rows, m) -> (groups, m); unchanged if every row is a group of its own.

    Args:
        stats: statistics of each row.
        groups: (rows,) the number of each row's group.
    """
    numbers, starts = np.unique(np.sort(groups), return_index=True)
    if len(numbers) == len(groups):
        return stats
    order = np.argsort(groups, kind="stable")
    return np.asarray(np.add.reduceat(stats[order], starts, axis=0, dtype=np.float64))


def count_effective_rows(groups: NDArray[Any]) -> float:
    """Return the effective number of rows if all rows of a group are right or wrong together (Kish 1965).

    This is the worst case, not an estimate: the correlation within a group can only be estimated from rows on which
    the models differ. Where none differ, an estimate would let a few groups prove what only many rows can.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    return float(len(groups) ** 2 / (sizes**2).sum())
