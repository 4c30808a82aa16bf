"""Multi-label classification: predicts any number of labels for a text, or none."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from . import text_classification
from .shared.types import Batch, EncodedRow, Floats, Statistics

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from evertune.objectives.shared.proper_scores import RowScores
    from evertune.objectives.shared.scoring import ClassSummary

COLUMNS = {"text": "string", "labels": "labels"}
INPUTS = ("text",)
TARGET = "labels"
LABELED = True
ENCODES_TARGET = False
ASSESSED = True
OUTPUTS = {"labels": "strings", "scores": "numbers"}
METRICS = ("f1_micro", "f1_macro", "mean_average_precision", "precision_micro", "recall_micro", "accuracy")
BINS = 32  # bins of a label's probability, from whose counts its average precision is computed


class Options(text_classification.Options):
    """Any number of labels for a text. Columns: `text`, `labels` (a list, or labels between `|` or `;`)."""

    type: Literal["multi-label"] = Field("multi-label", description="Name of the objective.")  # type: ignore[assignment]
    threshold: float = Field(0.5, gt=0, lt=1, description="Probability from which a label is predicted.")


class Prediction(TypedDict):
    """The labels and their probabilities, the likeliest first; with known labels the probability of every label."""

    labels: list[str]
    scores: list[float]
    all_scores: NotRequired[dict[str, float]]


encode = text_classification.encode
load_model = text_classification.load_model
collate = text_classification.collate
explain_unfit = text_classification.explain_unfit


def list_labels(targets: Sequence[Sequence[str]]) -> list[str]:
    """List the labels of all rows."""
    return [label for labels in targets for label in labels]


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights, with a new head of one output per label; its config keeps the threshold."""
    model = text_classification.build_model(path, labels, options)
    model.config.threshold = options.threshold
    return model


def make_example(
    encoded: EncodedRow, target: Sequence[str] | None, label_ids: Mapping[str, int]
) -> text_classification.Example:
    """Make what `collate` takes of one row; labels that the model does not know are ignored."""
    row: text_classification.Example = {"input_ids": encoded["input_ids"]}
    if target is None:
        return row
    labels = np.zeros(len(label_ids), dtype=np.float32)
    labels[[label_ids[label] for label in target if label in label_ids]] = 1
    return {**row, "labels": labels}


def compute_loss(
    logits: "torch.Tensor", labels: "torch.Tensor", weights: "torch.Tensor | None" = None, smoothing: float = 0.0
) -> "torch.Tensor":
    """Compute binary cross-entropy, summed over rows and labels; `weights` apply where a label is present."""
    import torch

    smoothed_labels = labels * (1 - smoothing) + smoothing / 2
    return torch.nn.functional.binary_cross_entropy_with_logits(
        logits.float(), smoothed_labels, pos_weight=weights, reduction="sum"
    )


def predict_batch(
    model: "PreTrainedModel",
    batch: Batch,
    examples: Sequence[text_classification.Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> tuple[list[Prediction], float]:
    """Predict labels; where they are known, add the loss and the probability of every label."""
    labels = batch.pop("labels", None)
    logits = model(**batch).logits
    predictions = decode(logits, examples, names, {**conventions, "threshold": model.config.threshold})
    return predictions, 0.0 if labels is None else float(compute_loss(logits, labels))


def decode(
    logits: "torch.Tensor",
    examples: Sequence[text_classification.Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> list[Prediction]:
    """Predict the labels above the threshold, the likeliest first."""
    threshold = cast(float, conventions.get("threshold", 0.5))
    predictions: list[Prediction] = []
    for row, item in zip(logits.float().sigmoid().cpu().numpy(), examples, strict=True):
        chosen = [index for index in np.argsort(-row, kind="stable") if row[index] >= threshold]
        prediction: Prediction = {
            "labels": [names[index] for index in chosen],
            "scores": [float(row[index]) for index in chosen],
        }
        if "labels" in item:
            prediction["all_scores"] = dict(zip(names, row.tolist(), strict=True))
        predictions.append(prediction)
    return predictions


def predict_majority(targets: Sequence[Sequence[str]]) -> list[Prediction]:
    """Predict the commonest set of labels for every row, with score 1."""
    top = list(Counter(tuple(labels) for labels in targets).most_common(1)[0][0])
    sure = dict.fromkeys(top, 1.0)
    return [{"labels": top, "scores": [1.0] * len(top), "all_scores": sure} for _ in targets]


def compute_statistics(
    targets: Sequence[Sequence[str]], predictions: Sequence[Prediction], names: Sequence[str]
) -> Statistics:
    """Return counts of each row, (rows, (3 + 2 * BINS) * labels + 2).

    They are true, predicted and correct labels; rows and true rows by bin of each label's probability; 1; and whether
    all labels of the row are right.
    """
    index = {name: column for column, name in enumerate(names)}
    true, guess = (
        _mark_labels(sets, index) for sets in (targets, [prediction["labels"] for prediction in predictions])
    )
    scores = np.zeros((len(targets), len(names)))
    for row, prediction in enumerate(predictions):
        for name, score in prediction["all_scores"].items():
            if name in index:  # a champion may know labels that are no longer in use
                scores[row, index[name]] = score
    bins = np.minimum((np.nan_to_num(scores) * BINS).astype(int), BINS - 1)
    spread = (bins[:, :, None] == np.arange(BINS)).astype(np.float32)
    hits = spread * true[:, :, None]
    exact = (true == guess).all(1)[:, None]
    flat = [part.reshape(len(targets), -1) for part in (true, guess, true * guess, spread, hits)]
    counts: NDArray[np.float32] = np.concatenate(
        [*flat, np.ones_like(exact, dtype=np.float32), exact.astype(np.float32)], axis=1
    )
    return counts


def _mark_labels(sets: Sequence[Sequence[str]], index: Mapping[str, int]) -> NDArray[np.float32]:
    indicators = np.zeros((len(sets), len(index)), dtype=np.float32)
    for row, labels in enumerate(sets):
        indicators[row, [index[label] for label in labels]] = 1
    return indicators


def _split_sums(sums: Floats, labels: int) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """True, predicted, correct labels; rows and true rows by label and bin; rows and exact rows."""
    true, guess, hit = (sums[..., part * labels : (part + 1) * labels] for part in range(3))
    start = 3 * labels
    size = labels * BINS
    all_, positive = (sums[..., start + part * size : start + (part + 1) * size] for part in range(2))
    shape = (*sums.shape[:-1], labels, BINS)
    return true, guess, hit, all_.reshape(shape), positive.reshape(shape), sums[..., -2:]


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., m) -> (...).

    `accuracy` is the share of rows with exactly the right labels; average precision counts rows of one bin as tied.
    """
    sums = np.asarray(sums)
    true, guess, hit, rows, positive, exact = _split_sums(sums, len(names))
    seen = (true + guess) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.nan_to_num(2 * hit / (true + guess))
        precision = np.nan_to_num(hit.sum(-1) / guess.sum(-1))
        recall = np.nan_to_num(hit.sum(-1) / true.sum(-1))
        return {
            "f1_micro": np.nan_to_num(2 * hit.sum(-1) / (true.sum(-1) + guess.sum(-1))),
            "f1_macro": np.nan_to_num((each * seen).sum(-1) / seen.sum(-1)),
            "mean_average_precision": _average_precision(rows, positive),
            "precision_micro": precision,
            "recall_micro": recall,
            "accuracy": exact[..., 1] / exact[..., 0],
        }


def _average_precision(rows: Floats, positive: Floats) -> Floats:
    """Mean average precision of the labels that occur (Everingham et al. 2010)."""
    above = np.flip(np.flip(rows, -1).cumsum(-1), -1)
    hits_above = np.flip(np.flip(positive, -1).cumsum(-1), -1)
    total = positive.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.nan_to_num((np.nan_to_num(hits_above / above) * positive).sum(-1) / total)
        mean: Floats = np.nan_to_num((each * (total > 0)).sum(-1) / (total > 0).sum(-1))
        return mean


def summarize_classes(sums: Floats, names: Sequence[str]) -> "ClassSummary":
    """Summarize precision, recall, F1 and support by class."""
    from evertune.objectives.shared import scoring

    return {"per_class": scoring.summarize_classes(sums, names), "calibration": []}


def pair_labels(targets: Sequence[Sequence[str]], predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    """Pair true and predicted labels of each row: common ones with themselves, missed with added ones, `-` for none."""
    true = []
    guess = []
    for labels, prediction in zip(targets, predictions, strict=True):
        true_labels = set(labels)
        named_labels = set(prediction["labels"])
        missed = sorted(true_labels - named_labels)
        added = sorted(named_labels - true_labels)
        width = max(len(missed), len(added))
        common = sorted(true_labels & named_labels)
        true += common + missed + ["-"] * (width - len(missed))
        guess += common + added + ["-"] * (width - len(added))
    return true, guess


def score_outputs(
    logits: "torch.Tensor",
    examples: Sequence[text_classification.Example],
    targets: Sequence[Sequence[str]],
    names: Sequence[str],
    classes: int,
) -> "RowScores":
    """Score each row by the mean over all labels of the probability that they are there, or are not."""
    from evertune.objectives.shared import proper_scores

    return proper_scores.score_sets(logits.double().cpu().numpy(), targets, names, classes)
