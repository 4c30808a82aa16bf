"""What the difference of two models on the same rows proves: tests of shares of right rows, and of other numbers.

Of a share (accuracy, an F1) one row moves the difference by one at most, whatever the models: that bounds what rows
that do not differ can hide. Bits per byte, squared errors or correlations have no such scale; what is known of them is
how much they differed.
"""

import math
from collections.abc import Callable, Collection
from statistics import NormalDist
from typing import NamedTuple


class MetricKind(NamedTuple):
    """The tests of one kind of metric.

    Args:
        spread: mean squared difference of a row, and the gap -> what is taken for it.
        score: gap, spread, rows, the true difference that is tested -> z.
        lower_bound: gap, spread, rows, one-sided level -> the smallest true difference that `score` does not exclude.
        detectable: rows, level, gap, spread -> the smallest true difference that is found with a chance of 0.8.
    """

    spread: Callable[[float, float], float]
    score: Callable[[float, float, float, float], float]
    lower_bound: Callable[[float, float, float, float], float]
    detectable: Callable[[float, float, float, float], float]


def share_score(gap: float, discordance: float, rows: float, null: float) -> float:
    """The z of a difference of two paired shares against a true difference `null` (Tango 1998); at 0 it is McNemar's.

    Its spread is what the rows would most likely have were `null` true. The resamples' own spread is too small just
    where the challenger looks too good, and 0 where no row differs: it passes up to twice the models that it may.

    Args:
        gap: challenger less champion.
        discordance: share of rows on which exactly one of the two is right.
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
    """The smallest true difference of two paired shares that `score` does not exclude at one-sided level `alpha`."""
    low = -1.0
    high = gap
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if share_score(gap, discordance, rows, middle) > upper_z(alpha) else (low, middle)
    return low


def share_detectable(rows: float, alpha: float, power: float = 0.8, discordance: float = 0.1) -> float:
    """The smallest true difference of a share such as accuracy that the gate finds with chance `power`; at most 1.

    Args:
        alpha: one-sided level.
        discordance: share of rows on which exactly one model is right; more is assumed where the difference needs it.
    """

    def is_detectable(gap: float) -> bool:
        discordant = max(discordance, gap)
        needed = upper_z(alpha) * math.sqrt(discordant / rows) + 1 / rows  # the permutation test moves by whole rows
        return gap >= needed + upper_z(1 - power) * math.sqrt((discordant - gap**2) / rows)

    low = 0.0
    high = 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if is_detectable(middle) else (middle, high)
    return high


def number_score(gap: float, square: float, rows: float, null: float) -> float:
    """The z of a mean difference against a true one, `null`, with the variance that the rows have around `null`.

    That is Student's t as the score test has it, z = t / sqrt(1 + t**2 / rows): never above the root of `rows`, so that
    a few rows that happen to differ alike prove little.

    Args:
        square: mean squared difference of a row.
    """
    variance = max(0.0, square - gap**2) + (gap - null) ** 2
    return (gap - null) / math.sqrt(variance / rows) if variance > 0 else 0.0


def number_lower_bound(gap: float, square: float, rows: float, alpha: float) -> float:
    """The smallest true mean difference that `number_score` does not exclude; -inf where so few rows exclude none."""
    remaining_rows = rows - upper_z(alpha) ** 2
    return (
        gap - upper_z(alpha) * math.sqrt(max(0.0, square - gap**2) / remaining_rows)
        if remaining_rows > 0
        else -math.inf
    )


def number_detectable(rows: float, alpha: float, gap: float, square: float) -> float:
    """The smallest true mean difference that is found with a chance of 0.8 where rows scatter as they did."""
    return (upper_z(alpha) + upper_z(0.2)) * math.sqrt(max(0.0, square - gap**2) / rows)


def upper_tail(z: float) -> float:
    """P(standard normal >= z), exact far out where 1 - cdf is not."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def upper_z(alpha: float) -> float:
    """The z that a standard normal exceeds with chance `alpha`."""
    return -NormalDist().inv_cdf(alpha)


def format_amount(size: float, metric: str, kind: MetricKind, digits: int = 1) -> str:
    """A difference of a metric in words: of a share in points with so many digits, of other numbers in their unit."""
    return f"{100 * size:.{digits}f} points" if kind is SHARE else f"{size:.3g} {metric.replace('_', ' ')}"


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
    """The kind of a metric, by those of its objective that are no shares."""
    return NUMBER if metric in no_shares else SHARE
