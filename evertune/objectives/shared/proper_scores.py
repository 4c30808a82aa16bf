"""Proper scores of rows: how much probability a model gave to what turned out to be true.

A score is proper if a model reaches the best expected value by stating the true probabilities (Gneiting & Raftery
2007, section 2). Scores are computed at several temperatures at once, since a model that is too sure of itself loses by
that alone; which temperature counts is decided later, on other rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TEMPERATURES = 2.0 ** (np.arange(-4, 9) / 4)  # 0.5 to 4 in steps of a quarter octave
NEUTRAL = 4  # position of temperature 1
FLOOR = 0.02  # share of the probability that every model is taken to spread over all classes


@dataclass(frozen=True)
class RowScores:
    """The scores of a model on some rows; higher is better.

    Args:
        log: (rows, temperatures) logarithm of the probability of the truth, never below that of the floor; a single
            column where temperatures do not apply.
        brier: the same as a quadratic score, from -2 to 0; equal to `log` where there are no probabilities.
        sizes: (rows,) weight of each row, such as its number of words.
    """

    log: Floats
    brier: Floats
    sizes: Floats


def score_classes(logits: Floats, truth: Sequence[str], names: Sequence[str], classes: int) -> tuple[Floats, Floats]:
    """Return logarithmic and quadratic scores of each item, both (items, temperatures).

    Args:
        logits: (items, outputs).
        truth: true class of each item; one that the model does not know has no probability.
        names: class of each output; outputs of the same name add up.
        classes: number of classes over which the floor is spread, the same for all models that are compared.
    """
    outputs: dict[str, list[int]] = {name: [] for name in names}
    for index, name in enumerate(names):
        outputs[name].append(index)
    is_truth = np.zeros(logits.shape, dtype=bool)
    for item, label in enumerate(truth):
        is_truth[item, outputs.get(label, [])] = True
    log = np.empty((len(logits), len(TEMPERATURES)))
    brier = np.empty_like(log)
    for column, temperature in enumerate(TEMPERATURES):
        probabilities = softmax(logits / temperature)
        of_truth = (probabilities * is_truth).sum(1)
        log[:, column] = mix_floor(of_truth, classes)
        brier[:, column] = 2 * of_truth - (probabilities**2).sum(1) - 1
    return log, brier


def softmax(logits: Floats) -> Floats:
    """Return probabilities over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), dtype=np.float64)


def mix_floor(probabilities: Floats, classes: "int | Floats") -> Floats:
    """Return the logarithm of probabilities of which a small share is spread evenly over the classes."""
    return np.asarray(np.log((1 - FLOOR) * probabilities + FLOOR / classes), dtype=np.float64)


def score_sets(logits: Floats, truth: Sequence[Sequence[str]], names: Sequence[str], classes: int) -> RowScores:
    """Return the scores of sets of labels: means over all labels, each of which is there or not.

    Args:
        logits: (rows, outputs).
        truth: true labels of each row.
        names: label of each output.
        classes: number of labels, those included that the model does not know.
    """
    position = {name: index for index, name in enumerate(names)}
    is_true = np.zeros(logits.shape, dtype=bool)
    unknown = np.zeros(len(logits))
    for row, labels in enumerate(truth):
        for label in set(labels):
            if label in position:
                is_true[row, position[label]] = True
            else:
                unknown[row] += 1
    log = np.empty((len(logits), len(TEMPERATURES)))
    brier = np.empty_like(log)
    for column, temperature in enumerate(TEMPERATURES):
        yes = 1 / (1 + np.exp(-np.clip(logits / temperature, -60, 60)))
        of_truth = np.where(is_true, yes, 1 - yes)
        log[:, column] = (mix_floor(of_truth, 2).sum(1) + unknown * np.log(FLOOR / 2)) / classes
        brier[:, column] = -2 * ((1 - of_truth) ** 2).sum(1) / classes - 2 * unknown / classes
    return RowScores(log, brier, np.ones(len(logits)))


def average_items(log: Floats, brier: Floats, counts: Sequence[int]) -> RowScores:
    """Return the scores of rows from those of their items, in order, such as the words of sentences.

    Args:
        log: (items, temperatures).
        brier: (items, temperatures).
        counts: number of items of each row.
    """
    sizes = np.asarray(counts, dtype=np.float64)
    rows = np.repeat(np.arange(len(counts)), counts)

    def average(scores: Floats) -> Floats:
        sums = np.zeros((len(counts), scores.shape[1]))
        np.add.at(sums, rows, scores)
        return sums / np.maximum(sizes, 1)[:, None]

    return RowScores(average(log), average(brier), sizes)


def use_losses(losses: Sequence[float] | Floats, sizes: Sequence[float] | None = None) -> RowScores:
    """Return the scores of an objective that has a loss for each row, such as bits per byte or a squared error.

    Args:
        losses: of each row, summed over what `sizes` counts.
        sizes: what a row consists of, such as its bytes; None: each row counts as one.
    """
    totals = np.asarray(losses, dtype=np.float64)
    counts = np.ones(len(totals)) if sizes is None else np.asarray(sizes, dtype=np.float64)
    scores = -(totals / np.maximum(counts, 1))[:, None]
    return RowScores(scores, scores, counts)
