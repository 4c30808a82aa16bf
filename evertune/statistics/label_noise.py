"""How many labels of some rows are doubtful, and is that more than usual? By confident learning, with a second opinion.

A label is doubtful if a model that was trained without its row is confident of another label, and a second model gives
the same other label. The first follows confident learning (Northcutt, Jiang & Chuang 2021, Confident learning:
estimating uncertainty in dataset labels, section 3.1): it is confident of a label if its probability is at least the
mean probability that rows of this label have.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evertune.statistics.paired_tests import upper_tail

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

LEVEL = 0.001  # p-value below which a share is higher than usual
EXCESS = 0.05  # and it must be higher by so much: a large batch shows differences that do not matter
SMOOTHING = 2.0  # rows at the overall share that are added to those of each label
LEAST = 0.01  # share that a variance counts with at least, so that a usual share of 0 leaves room for chance


@dataclass(frozen=True)
class DoubtfulShare:
    """The share of doubtful labels among new rows, and what is usual.

    Args:
        rows: number of new rows.
        doubtful: number of doubtful labels among them.
        share: the same as a share.
        usual: share that is expected of rows with these labels.
        p: one-sided p-value of a share that is not higher than usual.
    """

    rows: int
    doubtful: int
    share: float
    usual: float
    p: float

    @property
    def is_unusual(self) -> bool:
        """Whether far more labels are doubtful than usual."""
        return self.p <= LEVEL and self.share >= self.usual + EXCESS


def suggest_labels(probabilities: Floats, labels: Integers, is_trusted: Mask) -> tuple[Integers, Mask]:
    """Return for each row the label that a model gives it, and where the model is confident of another label.

    Args:
        probabilities: (rows, classes) of a model that was trained without the row.
        labels: (rows,) index of the label that each row has.
        is_trusted: (rows,) rows that say how confident the model is of each label.
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels][is_trusted]
    counts = np.bincount(labels[is_trusted], minlength=classes)
    totals = np.bincount(labels[is_trusted], own, minlength=classes)
    thresholds = np.divide(totals, counts, out=np.full(classes, np.inf), where=counts > 0)
    best = probabilities.argmax(1)
    is_confident = probabilities[np.arange(len(labels)), best] >= thresholds[best]
    return best.astype(np.int64), is_confident & (best != labels)


def compare_shares(is_doubtful: Mask, labels: Integers, is_new: Mask, is_reference: Mask) -> DoubtfulShare:
    """Compare the share of doubtful labels among new rows with that among reference rows of the same labels.

    The reference is weighted by label to the new rows' shares of labels (direct standardization), since some labels are
    always more doubtful than others. The p-value is that of a z-test.

    Args:
        is_doubtful: (rows,).
        labels: (rows,) index of each row's label.
        is_new: (rows,) the new rows.
        is_reference: (rows,) the rows that say what is usual.
    """
    rows = int(is_new.sum())
    if not rows or not is_reference.any():
        return DoubtfulShare(rows, 0, 0.0, 0.0, 1.0)
    classes = int(labels.max()) + 1
    overall = float(is_doubtful[is_reference].mean())
    counts = np.bincount(labels[is_reference], minlength=classes) + SMOOTHING
    doubtful = np.bincount(labels[is_reference & is_doubtful], minlength=classes) + SMOOTHING * overall
    rates = doubtful / counts
    shares = np.bincount(labels[is_new], minlength=classes) / rows
    usual = float(shares @ rates)
    share = float(is_doubtful[is_new].mean())
    variance = max(usual, LEAST) * (1 - usual) / rows
    variance += float((shares**2 * np.maximum(rates, LEAST) * (1 - rates) / counts).sum())
    p = upper_tail((share - usual) / math.sqrt(variance)) if variance > 0 else 1.0
    return DoubtfulShare(rows, int(is_doubtful[is_new].sum()), share, usual, p)
