"""Resampling of per-row sufficient statistics: intervals, and the difference between two models on the same rows."""

import functools
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evertune.errors import DataError
from evertune.statistics.clusters import count_effective_rows, sum_by_group
from evertune.statistics.paired_tests import SHARE, MetricKind, upper_tail

Floats = NDArray[Any]
Metrics = Callable[[Any], Mapping[str, Any]]  # sums of statistics (..., m) -> {metric: (...)}
Value = Callable[[Any], Any]  # sums of statistics (..., m) -> one metric (...), higher is better

CELLS = 1 << 22  # most resampling weights held at a time
SWAPS = 100_000  # most permutations drawn ...
WORK = 1 << 28  # ... and most permutations times rows: a few seconds
FEW = 10  # with fewer exceedances, the first permutations do not locate the p-value
ENOUGH = 20  # exceedances expected at the tested level, once all permutations are drawn
TIE = 1e-9  # metrics closer than this are equal: ratios of the same counts, summed in another order
RADEMACHER = 3.178  # P(signed sum >= t sd) <= this * P(normal >= t), exactly (Bentkus & Dzindzalieta 2015)


@dataclass(frozen=True)
class Difference:
    """How much better a challenger is than the champion on the same rows.

    Args:
        rows: number of rows.
        groups: number of groups of dependent rows; equals `rows` if every row is independent.
        effective: effective number of independent rows.
        challenger: its metric, turned so that higher is better.
        champion: likewise.
        estimate: challenger minus champion.
        low: one-sided lower bound of the difference.
        high: one-sided upper bound, at a level of its own.
        p_better: one-sided p-value of "the challenger is better".
        p_worse: one-sided p-value of "the challenger is worse".
        spread: mean squared difference of an effective row; for accuracy the share on which the models differ.
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


def bootstrap_intervals(
    stats: Floats, metrics: Metrics, resamples: int, confidence: float, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Return every metric with its two-sided percentile bootstrap interval: `{metric: (estimate, low, high)}`.

    Args:
        stats: (rows, m), additive over rows; for dependent rows, (groups, m) from `sum_by_group`.
        metrics: sums of statistics -> metrics.
        resamples: number of resamples.
        confidence: of the interval, such as 0.95.
        seed: of the resampling.
    Raises:
        DataError: there are no rows.
    """
    resampled = [metrics(sums) for sums in bootstrap_sums(stats, resamples, seed)]
    estimates = metrics(sum_rows(stats))
    tail = (1 - confidence) / 2
    result = {}
    for name, estimate in estimates.items():
        low, high = np.quantile(np.concatenate([values[name] for values in resampled]), [tail, 1 - tail])
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
    kind: MetricKind = SHARE,
) -> Difference:
    """Return the difference of two models on the same rows, with one-sided bounds and p-values.

    Args:
        challenger: statistics (rows, m).
        champion: statistics of the same rows in the same order.
        value: sums of statistics -> the metric, higher is better.
        groups: (rows,) number of each row's group; the rows of a group are drawn and swapped together.
        resamples: bootstrap resamples, and first permutations.
        seed: of both.
        alpha: level of `low`, and the level that `p_better` and `p_worse` must be able to reach.
        harm_alpha: level of `high`.
        kind: SHARE or NUMBER.
    Raises:
        DataError: there are no rows.
    """
    challenger_value = float(value(sum_rows(challenger)))
    champion_value = float(value(sum_rows(champion)))
    gap = challenger_value - champion_value
    challenger = sum_by_group(challenger, groups)
    champion = sum_by_group(champion, groups)
    resampled_gaps = bootstrap_gaps(challenger, champion, value, resamples, seed)
    rows = count_effective_rows(groups)
    spread = kind.spread(float(resampled_gaps.var(ddof=1)) * rows + gap**2, gap)
    z = kind.score(gap, spread, rows, 0)
    swap_better, swap_worse = swap_test(challenger, champion, value, resamples, seed, alpha)
    # Both tests must agree. Swapping is exact for models that err alike; the bootstrap also covers models that err
    # differently. Its p-value is the normal tail: counting resamples cannot reach the small levels of later challenges.
    return Difference(
        len(groups),
        len(challenger),
        rows,
        challenger_value,
        champion_value,
        gap,
        low=float(np.minimum(np.quantile(resampled_gaps, alpha), kind.lower_bound(gap, spread, rows, alpha))),
        high=float(
            np.maximum(np.quantile(resampled_gaps, 1 - harm_alpha), -kind.lower_bound(-gap, spread, rows, harm_alpha))
        ),
        p_better=float(np.maximum(swap_better, upper_tail(z))),
        p_worse=float(np.maximum(swap_worse, upper_tail(-z))),
        spread=spread,
    )


def swap_test(
    challenger: Floats, champion: Floats, value: Value, resamples: int, seed: int, alpha: float
) -> tuple[float, float]:
    """Return one-sided p-values (better, worse) of the paired permutation test, which swaps the models row by row.

    Draws more than `resamples` permutations only if the first ones leave a chance to reach `alpha`, and bounds the
    tail if that would take more than is affordable. No swap changes which of these applies, except for giving up
    early on p-values far above `alpha`, so each p-value stays valid (compare Besag & Clifford 1991).
    """
    observed = float(value(sum_rows(challenger))) - float(value(sum_rows(champion)))
    gaps = swapped_gaps(challenger, champion, value, resamples, seed)
    needed_swaps = math.ceil(ENOUGH / alpha)
    affordable_swaps = min(SWAPS, WORK // max(1, int((challenger != champion).any(1).sum())))
    better, worse = count_exceedances(gaps, observed)
    hopeless = min(better, worse) >= FEW
    if affordable_swaps >= needed_swaps > resamples and not hopeless:
        further_gaps = swapped_gaps(challenger, champion, value, needed_swaps - resamples, seed + 1)
        gaps = np.concatenate([gaps, further_gaps])
        better, worse = count_exceedances(gaps, observed)
    p_better = (better + 1) / (len(gaps) + 1)
    p_worse = (worse + 1) / (len(gaps) + 1)
    if needed_swaps <= max(affordable_swaps, resamples) or hopeless:
        return p_better, p_worse
    tail = min(1.0, RADEMACHER * upper_tail(abs(observed) / float(gaps.std())))
    return (tail, p_worse) if observed > 0 else (p_better, tail)


def count_exceedances(gaps: Floats, observed: float) -> tuple[int, int]:
    """Count the permuted differences that are at least, and at most, the observed one; NaN counts as both."""
    return int((~(gaps < observed - TIE)).sum()), int((~(gaps > observed + TIE)).sum())


def bootstrap_gaps(challenger: Floats, champion: Floats, value: Value, resamples: int, seed: int) -> Floats:
    """Return the differences of the two models on rows drawn with replacement, (resamples,).

    Raises:
        DataError: there are no rows.
    """
    width = challenger.shape[1]
    both_stats = np.hstack([challenger, champion])
    return np.concatenate(
        [value(sums[:, :width]) - value(sums[:, width:]) for sums in bootstrap_sums(both_stats, resamples, seed)]
    )


def bootstrap_sums(stats: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield sums of statistics over rows drawn with replacement, in chunks (at most `resamples`, m) of bounded memory.

    Raises:
        DataError: there are no rows.
    """
    rows = len(stats)
    if rows == 0:
        raise DataError("no rows to resample: the split or slice is empty; add rows")
    single_precision = stats.astype(np.float32)  # counts below 2**24 stay exact, at twice the speed
    weight_chunks = (
        _cached_weights(rows, resamples, seed) if resamples * rows <= CELLS else _draw_weights(rows, resamples, seed)
    )
    for weights in weight_chunks:
        yield (weights @ single_precision).astype(np.float64)


@functools.lru_cache(maxsize=1)
def _cached_weights(rows: int, resamples: int, seed: int) -> list[Floats]:
    """Cached `_draw_weights`: two models, and metrics and classes, are scored on the same rows one after the other."""
    return list(_draw_weights(rows, resamples, seed))


def _draw_weights(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each row is drawn, in chunks (at most `resamples`, rows) of bounded memory."""
    rng = np.random.default_rng(seed)
    for size in chunk_sizes(resamples, rows):
        picks = rng.integers(0, rows, (size, rows)) + np.arange(size)[:, None] * rows
        weights = np.bincount(picks.ravel(), minlength=size * rows).reshape(size, rows)
        yield weights.astype(np.float32)


def swapped_gaps(challenger: Floats, champion: Floats, value: Value, swaps: int, seed: int) -> Floats:
    """Return the differences of the two models after swapping their statistics on random rows, (swaps,)."""
    steps = (challenger - champion).astype(np.float32)
    steps = steps[steps.any(axis=1)]
    challenger_sums = sum_rows(challenger)
    champion_sums = sum_rows(champion)
    rng = np.random.default_rng(seed)
    gaps = []
    for size in chunk_sizes(swaps, max(1, len(steps))):
        bits = rng.integers(0, 256, (size, (len(steps) + 7) // 8), dtype=np.uint8)
        moved = np.unpackbits(bits, axis=1, count=len(steps)).astype(np.float32) @ steps
        gaps.append(value(challenger_sums - moved) - value(champion_sums + moved))
    return np.concatenate(gaps)


def chunk_sizes(count: int, width: int) -> Iterator[int]:
    """Yield sizes that sum to `count`, each at most `CELLS` cells of the given width."""
    size = max(1, CELLS // width)
    for start in range(0, count, size):
        yield min(size, count - start)


def sum_rows(stats: Floats) -> Floats:
    """Sum statistics (rows, m) over all rows, (m,)."""
    return np.asarray(stats.sum(axis=0, dtype=np.float64))


def linearize_metric(stats: Floats, value: Value) -> Floats:
    """Return what each row adds to a metric: (rows,) numbers whose mean is the metric of all rows.

    Their scatter tells how sure the metric is (the linear substitutes of Deville 1999).

    Args:
        stats: (rows, m), additive over rows.
        value: sums of statistics -> the metric.
    """
    sums = sum_rows(stats)
    metric = float(value(sums))
    steps = np.maximum(np.abs(sums), 1.0) * 1e-6
    shifted = np.concatenate([sums + np.diag(steps), sums - np.diag(steps)])
    values = np.asarray(value(shifted), dtype=np.float64)
    slopes = (values[: len(sums)] - values[len(sums) :]) / (2 * steps)
    influence = stats @ slopes
    return np.asarray(metric + len(stats) * (influence - influence.mean()), dtype=np.float64)


def slice_metric(metric: str, available: Container[str]) -> str:
    """Return the metric that slices are compared by: the gate's own, but accuracy for a macro average.

    In a slice of one label, a macro average would weigh every wrongly predicted class like the slice's own.
    """
    if metric.endswith("_macro") and "accuracy" in available:
        return "accuracy"
    return metric


def holm(p_values: Sequence[float], alpha: float) -> list[float]:
    """Return the level of each p-value, so that the probability of any false finding is at most `alpha` (Holm 1979).

    In rising order, every p-value after the first one that misses its level gets level 0.
    """
    levels = [0.0] * len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        level = alpha / (len(p_values) - rank)
        levels[index] = level
        if not p_values[index] <= level:
            break
    return levels


def spend_alpha(alpha: float, challenge_number: int) -> float:
    """Return the share of `alpha` that challenge k of a champion may use: alpha * 6 / (pi * k)**2.

    The shares of challenges 1, 2, ... sum to `alpha`.

    Raises:
        ValueError: `challenge_number` is below 1.
    """
    if challenge_number < 1:
        raise ValueError(f"challenge_number is {challenge_number}; the first challenge of a champion is number 1")
    return alpha * 6 / (math.pi * challenge_number) ** 2
