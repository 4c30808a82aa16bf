"""Tests of the difference between two models on the same rows, for two kinds of metrics: shares and other numbers.

One row changes a share (accuracy, an F1) by at most one row's weight, whatever the models. This bounds what the rows
on which the models agree can hide. Bits per byte, squared errors and correlations have no such bound; only the observed
differences tell how far they scatter.
"""

import math
from collections.abc import Callable, Collection
from statistics import NormalDist
from typing import NamedTuple


class MetricKind(NamedTuple):
    """The tests of one kind of metric.

    Args:
        spread: (mean squared difference of a row, gap) -> the spread that the other functions take.
        score: (gap, spread, rows, tested true difference) -> z.
        lower_bound: (gap, spread, rows, one-sided level) -> the smallest true difference that `score` does not reject.
        detectable: (rows, level, gap, spread) -> the smallest true difference that is detected with 80% power.
    """

    spread: Callable[[float, float], float]
    score: Callable[[float, float, float, float], float]
    lower_bound: Callable[[float, float, float, float], float]
    detectable: Callable[[float, float, float, float], float]


def share_score(gap: float, discordance: float, rows: float, null: float) -> float:
    """Return the z of a difference of two paired shares against a true difference (Tango 1998); McNemar's z at 0.

    The variance is the maximum-likelihood one under `null`. The variance of the resamples is too small exactly where
    the challenger looks too good, and 0 where no row differs: with it, up to twice the allowed share of models passes.

    Args:
        gap: challenger minus champion.
        discordance: share of rows on which exactly one of the two models is right.
        rows: effective number of rows.
        null: the true difference that is tested.
    """
    fixes = (discordance + gap) / 2
    breaks = (discordance - gap) / 2
    margin = -null
    b = breaks * (1 + margin) + fixes * (1 - margin) + 2 * margin
    likely_breaks = (b + math.sqrt(max(0.0, b * b - 8 * breaks * margin * (1 + margin)))) / 4
    variance = (2 * likely_breaks - margin - margin**2) / rows
    if variance <= 0:
        return 0.0 if gap == null else math.copysign(math.inf, gap - null)
    return (gap - null) / math.sqrt(variance)


def share_lower_bound(gap: float, discordance: float, rows: float, alpha: float) -> float:
    """Return the smallest true difference that `share_score` does not reject at one-sided level `alpha`."""
    low = -1.0
    high = gap
    for _ in range(50):
        middle = (low + high) / 2
        if share_score(gap, discordance, rows, middle) > upper_z(alpha):
            low = middle
        else:
            high = middle
    return low


def share_detectable(rows: float, alpha: float, power: float = 0.8, discordance: float = 0.1) -> float:
    """Return the smallest true difference of a share such as accuracy that the gate detects; at most 1.

    Args:
        rows: effective number of rows.
        alpha: one-sided level.
        power: probability of detecting the difference.
        discordance: share of rows on which exactly one model is right; at least the difference itself is assumed.
    """

    def is_detectable(gap: float) -> bool:
        discordant = max(discordance, gap)
        needed = upper_z(alpha) * math.sqrt(discordant / rows) + 1 / rows  # the permutation test moves by whole rows
        return gap >= needed + upper_z(1 - power) * math.sqrt((discordant - gap**2) / rows)

    low = 0.0
    high = 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if is_detectable(middle):
            high = middle
        else:
            low = middle
    return high


def number_score(gap: float, square: float, rows: float, null: float) -> float:
    """Return the z of a mean difference against a true difference, with the variance of the rows around `null`.

    This is the score test's form of Student's t, z = t / sqrt(1 + t**2 / rows). It never exceeds the root of `rows`, so
    a few rows that happen to differ alike prove little.

    Args:
        gap: mean difference.
        square: mean squared difference of a row.
        rows: effective number of rows.
        null: the true difference that is tested.
    """
    variance = max(0.0, square - gap**2) + (gap - null) ** 2
    return (gap - null) / math.sqrt(variance / rows) if variance > 0 else 0.0


def number_lower_bound(gap: float, square: float, rows: float, alpha: float) -> float:
    """Return the smallest true mean difference that `number_score` does not reject; -inf with too few rows."""
    remaining_rows = rows - upper_z(alpha) ** 2
    if remaining_rows <= 0:
        return -math.inf
    return gap - upper_z(alpha) * math.sqrt(max(0.0, square - gap**2) / remaining_rows)


def number_detectable(rows: float, alpha: float, gap: float, square: float) -> float:
    """Return the smallest true mean difference that is detected with 80% power, given the observed scatter."""
    return (upper_z(alpha) + upper_z(0.2)) * math.sqrt(max(0.0, square - gap**2) / rows)


def upper_tail(z: float) -> float:
    """Return P(standard normal >= z), accurate in the far tail where 1 - cdf is not."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def upper_z(alpha: float) -> float:
    """Return the z that a standard normal exceeds with probability `alpha`."""
    return -NormalDist().inv_cdf(alpha)


def format_amount(size: float, metric: str, kind: MetricKind, digits: int = 1) -> str:
    """Write a difference of a metric with its unit: "2.1 points" for a share, "0.039 bits per byte" for another number.

    Args:
        size: the difference.
        metric: its name.
        kind: SHARE or NUMBER.
        digits: digits after the decimal point of a share.
    """
    if kind is SHARE:
        return f"{100 * size:.{digits}f} points"
    return f"{size:.3g} {metric.replace('_', ' ')}"


SHARE = MetricKind(
    spread=lambda square, gap: min(max(square, abs(gap)), 1.0),
    score=share_score,
    lower_bound=share_lower_bound,
    detectable=lambda rows, alpha, _, discordance: share_detectable(rows, alpha, discordance=discordance),
)
NUMBER = MetricKind(
    spread=lambda square, _: square,
    score=number_score,
    lower_bound=number_lower_bound,
    detectable=number_detectable,
)


def find_kind(metric: str, no_shares: Collection[str]) -> MetricKind:
    """Return the kind of a metric.

    Args:
        metric: its name.
        no_shares: the metrics of its objective that are not shares.
    """
    return NUMBER if metric in no_shares else SHARE
