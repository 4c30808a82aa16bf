"""Metrics of labels as functions of additive counts, so that every resample is a matrix product."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from .types import Floats


class ClassScores(TypedDict):
    """Scores of one class."""

    precision: float
    recall: float
    f1: float
    support: float


class Reliability(TypedDict):
    """One bin of a reliability curve."""

    rows: float
    confidence: float
    accuracy: float


class ClassSummary(TypedDict):
    """What `summarize_classes` of an objective returns; its report keeps it as JSON."""

    per_class: dict[str, ClassScores]
    per_tag: NotRequired[dict[str, ClassScores]]
    calibration: list[Reliability]


BINS = 15  # equal-width confidence bins of the expected calibration error (Guo et al. 2017, section 2)


def count_outcomes(
    rows: NDArray[np.integer],
    true: Sequence[str],
    guess: Sequence[str],
    score: Floats,
    names: Sequence[str],
    size: int,
) -> NDArray[np.float32]:
    """Count outcomes of each row, (size, 3 * classes + 3 * BINS).

    The columns are true, predicted and correct items by class; count, confidence and correct items by confidence bin.

    Args:
        rows: row of each item, (items,); an item is a label or one word's tag.
        true: label of each item.
        guess: predicted label of each item.
        score: probability of the guess, (items,); NaN makes the row's confidence NaN.
        names: the classes.
        size: number of rows.
    """
    index = {name: i for i, name in enumerate(names)}
    is_true = np.array([index[name] for name in true], dtype=np.int64)
    is_guess = np.array([index[name] for name in guess], dtype=np.int64)
    correct = is_true == is_guess
    classes = len(names)
    counts = np.zeros((size, 3 * classes + 3 * BINS), dtype=np.float32)
    # The NaN of a broken model is kept in the sums, so that the gate sees it.
    slot = 3 * classes + 3 * np.minimum((np.nan_to_num(score) * BINS).astype(np.int64), BINS - 1)
    for column, amount in (
        (is_true, 1.0),
        (classes + is_guess, 1.0),
        (2 * classes + is_true, correct),
        (slot, 1.0),
        (slot + 1, score),
        (slot + 2, correct),
    ):
        np.add.at(counts, (rows, column), amount)
    return counts


def compute_class_metrics(sums: Floats, classes: int) -> dict[str, Floats]:
    """Compute accuracy, F1 and calibration from sums of `count_outcomes`, (..., m) -> (...).

    Averages are over the classes that occur.
    """
    true, guess, hit = (sums[..., part * classes : (part + 1) * classes] for part in range(3))
    total = true.sum(-1)
    seen = (true + guess) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = np.nan_to_num(2 * hit / (true + guess))
        precision = np.nan_to_num(hit / guess)
        recall = np.nan_to_num(hit / true)
        accuracy = hit.sum(-1) / total
        classes_seen = seen.sum(-1)
        return {
            "f1_macro": (f1 * seen).sum(-1) / classes_seen,
            "accuracy": accuracy,
            "f1_micro": accuracy,
            "f1_weighted": (f1 * true).sum(-1) / total,
            "precision_macro": (precision * seen).sum(-1) / classes_seen,
            "recall_macro": (recall * seen).sum(-1) / classes_seen,
            "ece": _calibration_error(sums[..., 3 * classes : 3 * classes + 3 * BINS], total),
        }


def _calibration_error(bins: Floats, total: Floats) -> Floats:
    confidence = bins[..., 1::3]
    correct = bins[..., 2::3]
    gaps: Floats = np.abs(confidence - correct).sum(-1)
    return gaps / total


def summarize_classes(sums: Floats, names: Sequence[str]) -> dict[str, ClassScores]:
    """Return precision, recall, F1 and support by class, from the sums of `count_outcomes`."""
    classes = len(names)
    table: dict[str, ClassScores] = {}
    for position, name in enumerate(names):
        support, named, hit = (float(sums[part * classes + position]) for part in range(3))
        table[name] = {
            "precision": hit / named if named else 0.0,
            "recall": hit / support if support else 0.0,
            "f1": 2 * hit / (support + named) if support + named else 0.0,
            "support": support,
        }
    return table


def compute_reliability(sums: Floats, classes: int) -> list[Reliability]:
    """Return the reliability curve: rows, mean confidence and accuracy of each bin with rows."""
    bins = sums[3 * classes : 3 * classes + 3 * BINS]
    return [
        {"rows": float(rows), "confidence": float(sure / rows), "accuracy": float(right / rows)}
        for rows, sure, right in zip(bins[0::3], bins[1::3], bins[2::3], strict=True)
        if rows
    ]
