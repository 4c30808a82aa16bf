"""The F1 of a label, by which the gate compares two models on the label's slice."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evertune.objectives import Objective

Floats = NDArray[np.float64]


def compute_label_f1(objective: Objective, names: Sequence[str], sums: Floats, label: str) -> Floats:
    """Return the F1 (...,) of a label, NaN where the objective has none for it.

    Args:
        objective: its module.
        names: all labels.
        sums: (..., m) of the objective's statistics.
        label: a label, or a tag.
    """
    flat = np.asarray(sums, dtype=np.float64).reshape(-1, np.shape(sums)[-1])
    scores = np.array([_read_f1(objective, names, row, label) for row in flat])
    return scores.reshape(np.shape(sums)[:-1])


def _read_f1(objective: Objective, names: Sequence[str], sums: Floats, label: str) -> float:
    summary = objective.summarize_classes(sums, names)
    for table in (summary["per_class"], summary.get("per_tag") or {}):
        if label in table:
            return float(table[label]["f1"])
    return float("nan")
