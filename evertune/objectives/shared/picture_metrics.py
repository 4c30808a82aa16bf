"""Metrics of pictures drawn for captions, from additive moments; a copy travels in bundles."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from . import pixels
from .types import Floats

METRICS = ("code_perplexity", "frechet_distance", "inception_score", "recall_at_1", "recall_at_5")
LABELS = 16  # maximum labels of the classifier
UPPER = np.triu_indices(LABELS)
MOMENTS = LABELS + len(UPPER[0])
SIDE = 16  # pixels at which pictures are compared


class Prediction(TypedDict):
    """A picture drawn for a caption; with a known picture also what the metrics are made from.

    Args:
        image: PNG in base64.
        nats: of each code of the known picture, on average.
        judged: the classifier's logits of the drawn picture.
        real: those of the known picture.
    """

    image: str
    nats: NotRequired[float]
    judged: NotRequired[list[float]]
    real: NotRequired[list[float]]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Floats:
    """Return statistics of each row, (rows, 5 + LABELS + 2 * MOMENTS).

    They are 1; nats per code; entropy of the classifier's labels of the drawn picture; whether the true picture is the
    nearest to the drawn one, or among the five nearest, of all these rows; the labels' probabilities; first and second
    moments of the classifier's logits of the true picture and of the drawn one.
    """
    drawn, real = (
        np.array([_pad_logits(prediction[name]) for prediction in predictions]) for name in ("judged", "real")
    )
    labels = max((len(prediction["judged"]) for prediction in predictions), default=1)
    odds = np.zeros_like(drawn)
    odds[:, :labels] = np.exp(drawn[:, :labels] - drawn[:, :labels].max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    entropy = -np.where(odds > 0, odds * np.log(np.maximum(odds, 1e-30)), 0).sum(1)
    ranks = _rank_pictures(targets, predictions)
    single = [np.ones(len(targets)), [prediction["nats"] for prediction in predictions], entropy, ranks < 1, ranks < 5]
    return np.concatenate([np.stack(single, 1), odds, _compute_moments(real), _compute_moments(drawn)], axis=1)


def _pad_logits(logits: Sequence[float]) -> Floats:
    padded = np.zeros(LABELS)
    padded[: len(logits)] = np.asarray(logits) - np.mean(logits)
    return padded


def _compute_moments(values: Floats) -> Floats:
    return np.concatenate([values, values[:, UPPER[0]] * values[:, UPPER[1]]], axis=1)


def _rank_pictures(targets: Sequence[str], predictions: Sequence[Prediction]) -> NDArray[np.int64]:
    """Number of other rows' true pictures that are nearer to the drawn one, by squared distance, (rows,)."""
    real = np.array([pixels.decode_picture(target, SIDE).reshape(-1) for target in targets], dtype=np.float64)
    drawn = np.array(
        [pixels.decode_picture(prediction["image"], SIDE).reshape(-1) for prediction in predictions], dtype=np.float64
    )
    distances = (drawn**2).sum(1)[:, None] - 2 * drawn @ real.T + (real**2).sum(1)[None]
    ranks: NDArray[np.int64] = (distances < np.diag(distances)[:, None] - 1e-6).sum(1)
    return ranks


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., m) -> (...).

    `frechet_distance` is that of the classifier's centred logits (Heusel et al. 2017), `inception_score` that of its
    labels (Salimans et al. 2016). Compare them only between models of one recipe.
    """
    means = np.asarray(sums, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = means / means[..., :1]
    odds = means[..., 5 : 5 + LABELS]
    diversity = -np.where(odds > 0, odds * np.log(np.maximum(odds, 1e-30)), 0).sum(-1)
    real, drawn = (means[..., 5 + LABELS + side * MOMENTS :][..., :MOMENTS] for side in range(2))
    return {
        "code_perplexity": np.exp(means[..., 1]),
        "frechet_distance": _frechet_distance(real, drawn),
        "inception_score": np.exp(diversity - means[..., 2]),
        "recall_at_1": means[..., 3],
        "recall_at_5": means[..., 4],
    }


def _frechet_distance(first: Floats, second: Floats) -> Floats:
    """The distance |m - n|^2 + tr(A + B - 2 (AB)^(1/2)) of two normal distributions, by the eigenvalues of AB."""
    (mean, spread) = _fit_normal(first)
    (other_mean, other_spread) = _fit_normal(second)
    finite_rows = np.isfinite(spread).all((-1, -2)) & np.isfinite(other_spread).all((-1, -2))
    is_finite = cast(NDArray[np.bool_], finite_rows)  # one number for a vector of sums
    product = np.where(is_finite[..., None, None], spread @ other_spread, 0.0)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(product).real, 0)).sum(-1)
    traces = np.trace(spread, axis1=-2, axis2=-1) + np.trace(other_spread, axis1=-2, axis2=-1)
    return np.where(is_finite, ((mean - other_mean) ** 2).sum(-1) + np.maximum(traces - 2 * roots, 0), np.nan)


def _fit_normal(moments: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance from mean moments."""
    mean = moments[..., :LABELS]
    second = np.zeros((*mean.shape, LABELS))
    second[..., UPPER[0], UPPER[1]] = second[..., UPPER[1], UPPER[0]] = moments[..., LABELS:]
    return mean, second - mean[..., :, None] * mean[..., None, :]
