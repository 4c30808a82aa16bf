"""Resampling of per-row sufficient statistics: intervals, and the difference of two models scored on the same rows."""

import functools
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evertune.errors import DataError
from evertune.statistics.clusters import effective, summed
from evertune.statistics.paired_tests import SHARE, Kind, upper_tail

Floats = NDArray[Any]
Metrics = Callable[[Any], Mapping[str, Any]]  # sums of statistics (..., m) -> {metric: (...)}
Value = Callable[[Any], Any]  # sums of statistics (..., m) -> one metric (...), higher is better

CELLS = 1 << 22  # resampling weights held at a time
SWAPS = 100_000  # permutations drawn at most ...
WORK = 1 << 28  # ... and permutations times rows: some seconds
FEW = 10  # exceedances below which the first permutations are too few to place a p-value
ENOUGH = 20  # exceedances expected at the level that is asked for, once all permutations are drawn
TIE = 1e-9  # metrics closer than this are equal: they are ratios of the same counts, summed in another order
RADEMACHER = 3.178  # P(signed sum >= t sd) <= this * P(normal >= t), exactly (Bentkus & Dzindzalieta 2015)


@dataclass(frozen=True)
class Difference:
    """How much better a challenger is than the champion on the same rows.

    Args:
        groups: of rows that are right or wrong together; as many as rows where every row stands alone.
        effective: independent rows that these are worth.
        challenger, champion: the metric of each, turned so that higher is better.
        estimate: challenger less champion.
        low, high: one-sided bounds of the difference, each at its own level.
        p_better, p_worse: one-sided p-values.
        spread: mean squared difference of one of these; of an accuracy the share on which the two models differ.
    """

    rows: int
    groups: int
    effective: float
    challenger: float
    champion: float
    estimate: float
    low: float
    high: float
    p_better: float
    p_worse: float
    spread: float


def interval(
    stats: Floats, metrics: Metrics, resamples: int, confidence: float, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Every metric with its two-sided percentile bootstrap interval: `{metric: (estimate, low, high)}`.

    Args:
        stats: (rows, m), additive over rows; of groups, see `clusters.summed`.
    Raises:
        DataError: there are no rows.
    """
    drawn = [metrics(sums) for sums in bootstrap_sums(stats, resamples, seed)]
    estimates = metrics(totals(stats))
    tail = (1 - confidence) / 2
    result = {}
    for name, estimate in estimates.items():
        low, high = np.quantile(np.concatenate([one[name] for one in drawn]), [tail, 1 - tail])
        result[name] = (float(estimate), float(low), float(high))
    return result


def paired_difference(
    challenger: Floats,
    champion: Floats,
    value: Value,
    *,
    groups: NDArray[Any],
    resamples: int,
    seed: int,
    alpha: float,
    harm_alpha: float,
    kind: Kind = SHARE,
) -> Difference:
    """The difference of two models on the same rows, its one-sided bounds and p-values.

    Args:
        challenger, champion: statistics (rows, m) of the same rows in the same order.
        groups: (rows,) rows of one number are drawn and swapped together, as they are right or wrong together.
        alpha: level of `low`, and the level that `p_better` and `p_worse` must be able to reach.
        harm_alpha: level of `high`.
        kind: what sort of number the metric is.
    Raises:
        DataError: there are no rows.
    """
    ours, theirs = float(value(totals(challenger))), float(value(totals(champion)))
    gap, challenger, champion = ours - theirs, summed(challenger, groups), summed(champion, groups)
    drawn = bootstrap_gaps(challenger, champion, value, resamples, seed)
    rows = effective(groups)
    spread = kind.spread(float(drawn.var(ddof=1)) * rows + gap**2, gap)
    z = kind.score(gap, spread, rows, 0)
    swap_better, swap_worse = swap_test(challenger, champion, value, resamples, seed, alpha)
    # Both tests must agree. Swapping is exact for models that err alike, the bootstrap also covers those that err
    # differently. Its p-value is the normal tail: counting resamples cannot reach the small levels of late nights.
    return Difference(
        len(groups), len(challenger), rows, ours, theirs, gap,
        low=float(np.minimum(np.quantile(drawn, alpha), kind.lower_bound(gap, spread, rows, alpha))),
        high=float(np.maximum(np.quantile(drawn, 1 - harm_alpha), -kind.lower_bound(-gap, spread, rows, harm_alpha))),
        p_better=float(np.maximum(swap_better, upper_tail(z))),
        p_worse=float(np.maximum(swap_worse, upper_tail(-z))),
        spread=spread,
    )  # fmt: skip


def swap_test(
    challenger: Floats, champion: Floats, value: Value, resamples: int, seed: int, alpha: float
) -> tuple[float, float]:
    """One-sided p-values (better, worse) of the paired permutation test, which swaps the two models row by row.

    Draws more than `resamples` permutations only where the first ones leave a chance to reach `alpha`, and bounds the
    tail where it would take more than is affordable. No swap changes which of these applies, except for giving up
    early on p-values far above `alpha`, so each p-value stays valid (compare Besag & Clifford 1991).
    """
    observed = float(value(totals(challenger))) - float(value(totals(champion)))
    gaps = swapped_gaps(challenger, champion, value, resamples, seed)
    needed, affordable = (
        math.ceil(ENOUGH / alpha),
        min(SWAPS, WORK // max(1, int((challenger != champion).any(1).sum()))),
    )
    better, worse = exceedances(gaps, observed)
    hopeless = min(better, worse) >= FEW
    if affordable >= needed > resamples and not hopeless:
        more = swapped_gaps(challenger, champion, value, needed - resamples, seed + 1)
        gaps = np.concatenate([gaps, more])
        better, worse = exceedances(gaps, observed)
    p_better, p_worse = (better + 1) / (len(gaps) + 1), (worse + 1) / (len(gaps) + 1)
    if needed <= max(affordable, resamples) or hopeless:
        return p_better, p_worse
    tail = min(1.0, RADEMACHER * upper_tail(abs(observed) / float(gaps.std())))
    return (tail, p_worse) if observed > 0 else (p_better, tail)


def exceedances(gaps: Floats, observed: float) -> tuple[int, int]:
    """How many permuted differences are at least, and at most, the observed one; an undefined one counts as both."""
    return int((~(gaps < observed - TIE)).sum()), int((~(gaps > observed + TIE)).sum())


def bootstrap_gaps(challenger: Floats, champion: Floats, value: Value, resamples: int, seed: int) -> Floats:
    """Differences of the two models on rows drawn with replacement, (resamples,).

    Raises:
        DataError: there are no rows.
    """
    width = challenger.shape[1]
    both = np.hstack([challenger, champion])
    return np.concatenate(
        [value(sums[:, :width]) - value(sums[:, width:]) for sums in bootstrap_sums(both, resamples, seed)]
    )


def bootstrap_sums(stats: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Sums of statistics over rows drawn with replacement, in pieces (at most `resamples`, m) of bounded memory.

    Raises:
        DataError: there are no rows.
    """
    rows = len(stats)
    if rows == 0:
        raise DataError("there are no rows to resample; the split or slice that is to be judged is empty")
    exact = stats.astype(np.float32)  # counts below 2**24 stay exact, at twice the speed
    drawn = _weights(rows, resamples, seed) if resamples * rows <= CELLS else _drawn(rows, resamples, seed)
    for weights in drawn:
        yield (weights @ exact).astype(np.float64)


@functools.lru_cache(maxsize=1)
def _weights(rows: int, resamples: int, seed: int) -> list[Floats]:
    """As `_drawn`, and kept: two models, and metrics and classes, are judged on the same rows one after the other."""
    return list(_drawn(rows, resamples, seed))


def _drawn(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row is drawn, in pieces (at most `resamples`, rows) of bounded memory."""
    rng = np.random.default_rng(seed)
    for size in pieces(resamples, rows):
        picks = rng.integers(0, rows, (size, rows)) + np.arange(size)[:, None] * rows
        weights = np.bincount(picks.ravel(), minlength=size * rows).reshape(size, rows)
        yield weights.astype(np.float32)


def swapped_gaps(challenger: Floats, champion: Floats, value: Value, swaps: int, seed: int) -> Floats:
    """Differences of the two models after swapping their statistics on a random half of the rows, (swaps,)."""
    steps = (challenger - champion).astype(np.float32)
    steps = steps[steps.any(axis=1)]
    ours, theirs = totals(challenger), totals(champion)
    rng = np.random.default_rng(seed)
    gaps = []
    for size in pieces(swaps, max(1, len(steps))):
        bits = rng.integers(0, 256, (size, (len(steps) + 7) // 8), dtype=np.uint8)
        moved = np.unpackbits(bits, axis=1, count=len(steps)).astype(np.float32) @ steps
        gaps.append(value(ours - moved) - value(theirs + moved))
    return np.concatenate(gaps)


def pieces(count: int, width: int) -> Iterator[int]:
    """Sizes that add up to `count`, each at most `CELLS` cells of the given width."""
    size = max(1, CELLS // width)
    for start in range(0, count, size):
        yield min(size, count - start)


def totals(stats: Floats) -> Floats:
    """Sums of statistics (rows, m) over all rows, (m,)."""
    return np.asarray(stats.sum(axis=0, dtype=np.float64))


def slice_metric(metric: str, available: Container[str]) -> str:
    """The metric of slices: the gate's own, but accuracy for a macro average.

    In a slice of one label a macro average would weigh every wrongly named class like the slice's own.
    """
    return "accuracy" if metric.endswith("_macro") and "accuracy" in available else metric


def holm(p_values: Sequence[float], alpha: float) -> list[float]:
    """The level of each p-value, so that the chance of any false finding among them is at most `alpha` (Holm 1979).

    From the first p-value, in rising order, that misses its level, the rest get level 0.
    """
    levels = [0.0] * len(p_values)
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        level = alpha / (len(p_values) - place)
        levels[index] = level
        if not p_values[index] <= level:
            break
    return levels


def spend(alpha: float, night: int) -> float:
    """The share of `alpha` that a night may use: alpha * 6 / (pi * night)**2, whose sum over nights 1, 2, ... is alpha.

    Raises:
        ValueError: `night` is below 1.
    """
    if night < 1:
        raise ValueError(f"nights count from 1, not {night}; the first challenge of a champion is night 1")
    return alpha * 6 / (math.pi * night) ** 2
