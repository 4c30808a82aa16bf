"""Pair regression: predicts a number for two texts, such as their similarity."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from . import text_classification
from .shared import two_texts
from .shared.types import EncodedRow, Floats

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from evertune.objectives.shared.proper_scores import RowScores

COLUMNS = {"text": "string", "text_pair": "string", "score": "number"}
INPUTS = ("text", "text_pair")
TARGET = "score"
LABELED = False
ENCODES_TARGET = False
OUTPUTS = {"score": "number"}
METRICS = ("spearman", "pearson", "mse", "mae")
LOWER_IS_BETTER = ("mse", "mae")
ABSOLUTE_METRICS = METRICS
IGNORED_SETTINGS = {"label_smoothing": "targets are numbers, not labels"}


class Options(BaseModel):
    """A number for two texts. Columns: `text`, `text_pair`, `score`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["pair-regression"] = Field("pair-regression", description="Name of the objective.")
    max_length: int = Field(
        256, ge=8, description="Maximum tokens of both texts together; the longer one is cut first."
    )
    pooling: Literal["mean", "model"] = Field(
        "mean", description="Input of the head: the mean of the token states, or what the model's own head uses."
    )


class Prediction(TypedDict):
    """The number for two texts."""

    score: float


encode = two_texts.encode
load_model = text_classification.load_model
collate = text_classification.collate
explain_unfit = text_classification.explain_unfit


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights, with a new head of one output, in fp32."""
    return text_classification.build_model(
        path, ["score"], text_classification.Options(max_length=options.max_length, pooling=options.pooling)
    )


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> text_classification.Example:
    """Make what `collate` takes of one row; without a target for serving."""
    row: text_classification.Example = {"input_ids": encoded["input_ids"]}
    return row if target is None else {**row, "labels": np.float32(target)}


def compute_loss(
    logits: "torch.Tensor", labels: "torch.Tensor", weights: "torch.Tensor | None" = None, smoothing: float = 0.0
) -> "torch.Tensor":
    """Compute squared error, summed over the rows."""
    import torch

    return torch.nn.functional.mse_loss(logits.float().squeeze(-1), labels.float(), reduction="sum")


def decode(
    logits: "torch.Tensor",
    examples: Sequence[text_classification.Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> list[Prediction]:
    """Return the number of each row."""
    return [{"score": score} for score in logits.float().squeeze(-1).tolist()]


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict the median for every row."""
    middle = float(np.median([float(target) for target in targets]))
    return [{"score": middle} for _ in targets]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Floats:
    """Return for each row 1; x, y, xx, yy, xy of the numbers and of their ranks; both errors, (rows, 13).

    Ranks are among all rows here; a resample's Spearman correlation is that of these ranks.
    """
    from scipy.stats import rankdata

    true = np.array([float(target) for target in targets])
    predicted = np.array([prediction["score"] for prediction in predictions], dtype=np.float64)
    columns = [np.ones(len(true))]
    for x, y in ((true, predicted), (rankdata(true) / len(true), rankdata(predicted) / len(predicted))):
        columns += [x, y, x * x, y * y, x * y]
    stacked: Floats = np.stack([*columns, (true - predicted) ** 2, np.abs(true - predicted)], axis=1)
    return stacked


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., 13) -> (...).

    A correlation with a constant is 0.
    """
    sums = np.asarray(sums, dtype=np.float64)
    rows = sums[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "spearman": _compute_correlation(sums[..., 6:11], rows),
            "pearson": _compute_correlation(sums[..., 1:6], rows),
            "mse": sums[..., 11] / rows,
            "mae": sums[..., 12] / rows,
        }


def _compute_correlation(moments: Floats, rows: Floats) -> Floats:
    x, y, xx, yy, xy = (moments[..., index] / rows for index in range(5))
    spread = (xx - x * x) * (yy - y * y)
    is_finite = np.isfinite(spread)
    correlation = np.where(spread > 1e-18, (xy - x * y) / np.sqrt(np.maximum(spread, 1e-18)), 0.0)
    return np.where(is_finite, correlation, np.nan)


def score_predictions(targets: Sequence[str], predictions: Sequence[Prediction]) -> "RowScores":
    """Score each row by its squared error."""
    from evertune.objectives.shared import proper_scores

    return proper_scores.use_losses(
        [(float(target) - prediction["score"]) ** 2 for target, prediction in zip(targets, predictions, strict=True)]
    )
