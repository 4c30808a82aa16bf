"""Is a challenger better in expectation? A test of the mean difference of row scores, by group, with weights.

The mean of a proper score moves when a model's probabilities do, also on rows where both models choose the same label.
It therefore tells two models apart with far fewer rows than their right and wrong answers would.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from evertune.statistics.paired_tests import upper_tail

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EXACT_GROUPS = 12  # with at most so many groups that differ, every pattern of signs is tried
SIGN_FLIPS = 2000  # patterns of signs that are drawn otherwise
HOPELESS = 0.5  # above it no level promotes, and the signs need not be flipped
CELLS = 1 << 22  # most signs held at a time
TIE = 1e-12  # sums closer than this, relative to the largest, are equal


@dataclass(frozen=True)
class ExpectedGain:
    """The weighted mean difference of two models' scores, and how sure it is to be above 0.

    Args:
        rows: number of rows with a weight.
        groups: number of groups of dependent rows among them.
        mean: challenger less champion, in units of the score.
        error: standard error of `mean`, clustered by group.
        p: one-sided p-value of a mean above 0: the greater of a t-test and a sign-flip test. 1 without any spread.
        p_without_top: the same without the group that speaks most for the challenger.
        top_share: share of `mean` that this group brings; NaN where `mean` is 0.
    """

    rows: int
    groups: int
    mean: float
    error: float
    p: float
    p_without_top: float
    top_share: float


def measure_gain(differences: Floats, weights: Floats, groups: Integers, seed: int) -> ExpectedGain:
    """Return the weighted mean difference of row scores with its p-value.

    The standard error is that of a ratio estimate over clusters (Cochran 1977, section 6.4), the reference a t
    distribution with one degree of freedom less than there are groups. The sign-flip test turns whole groups. Both have
    to agree: the t-test holds for many groups of any distribution, the sign flips for few groups that scatter alike to
    both sides.

    Args:
        differences: (rows,) score of the challenger less that of the champion; higher is better.
        weights: (rows,) not negative; rows with weight 0 do not count.
        groups: (rows,) number of each row's group.
        seed: of the sign flips.
    """
    counts = weights > 0
    differences = differences[counts]
    weights = weights[counts]
    numbers, group_of_row = np.unique(groups[counts], return_inverse=True)
    if len(numbers) < 2:
        mean = float(weights @ differences / weights.sum()) if len(numbers) else math.nan
        return ExpectedGain(len(differences), len(numbers), mean, math.nan, 1.0, 1.0, 1.0)
    gains = np.bincount(group_of_row, weights * differences).astype(np.float64)
    sizes = np.bincount(group_of_row, weights).astype(np.float64)
    mean = float(gains.sum() / sizes.sum())
    error = float(_standard_errors(gains, sizes))
    p = _test_groups(gains, sizes, seed)
    top = int(np.argmax(gains - sizes * mean))
    remaining = np.arange(len(gains)) != top
    return ExpectedGain(
        rows=len(differences),
        groups=len(numbers),
        mean=mean,
        error=error,
        p=p,
        p_without_top=_test_groups(gains[remaining], sizes[remaining], seed) if len(gains) > 2 else 1.0,
        top_share=float(gains[top] / gains.sum()) if gains.sum() else math.nan,
    )


def estimate_mean(differences: Floats, groups: Integers) -> tuple[float, float]:
    """Return the mean difference of rows, and its standard error clustered by group; NaN with a single group.

    Args:
        differences: (rows,).
        groups: (rows,) number of each row's group.
    """
    numbers, group_of_row = np.unique(groups, return_inverse=True)
    gains = np.bincount(group_of_row, differences).astype(np.float64)
    sizes = np.bincount(group_of_row).astype(np.float64)
    mean = float(gains.sum() / sizes.sum())
    return mean, _standard_errors(gains, sizes) if len(numbers) > 1 else math.nan


def _standard_errors(gains: Floats, sizes: Floats) -> float:
    """Return the standard error of the mean difference, clustered by group."""
    total = sizes.sum()
    residuals = gains - sizes * (gains.sum() / total)
    return math.sqrt(float((residuals**2).sum())) / float(total)


def _test_groups(gains: Floats, sizes: Floats, seed: int) -> float:
    """Return the p-value of a mean above 0; 1 where the groups do not scatter, so that nothing can be said."""
    error = _standard_errors(gains, sizes)
    mean = float(gains.sum() / sizes.sum())
    if not math.isfinite(mean) or not math.isfinite(error):
        return 1.0
    if error <= TIE * np.abs(gains).max(initial=0.0) / sizes.sum():
        return 1.0
    p = t_tail(mean / error, len(gains) - 1)
    return p if p > HOPELESS else max(p, flip_signs(gains, seed))


def t_tail(t: float, degrees: int) -> float:
    """Return P(Student's t >= `t`)."""
    from scipy.special import stdtr

    return float(stdtr(degrees, -t))


def flip_signs(gains: Floats, seed: int) -> float:
    """Return the share of sign patterns over groups whose sum is at least the observed one.

    Args:
        gains: (groups,) weighted sum of differences of each group; groups without a difference do not matter.
        seed: of the patterns, where there are too many to try all.
    """
    gains = gains[gains != 0]
    observed = gains.sum()
    bound = observed - TIE * np.abs(gains).sum()
    if len(gains) <= EXACT_GROUPS:
        patterns = (np.arange(2 ** len(gains))[:, None] >> np.arange(len(gains))) & 1
        return float(((1 - 2 * patterns) @ gains >= bound).mean())
    rng = np.random.default_rng(seed)
    reached = 0
    size = max(1, CELLS // len(gains))
    for start in range(0, SIGN_FLIPS, size):
        count = min(size, SIGN_FLIPS - start)
        bits = rng.integers(0, 256, (count, (len(gains) + 7) // 8), dtype=np.uint8)
        flipped = np.unpackbits(bits, axis=1, count=len(gains)).astype(np.float64) @ gains
        reached += int((observed - 2 * flipped >= bound).sum())
    return (reached + 1) / (SIGN_FLIPS + 1)


@functools.lru_cache(maxsize=64)
def level_of_caution(caution: float) -> float:
    """Return the level at which a challenger is promoted if a point lost counts as `caution` points of missed gain.

    It is the level that makes the largest expected loss of either kind equally dear (minimax regret; Tetenov 2012,
    Statistical treatment choice based on asymmetric minimax regret criteria, section 3): 0.5 for 1, 0.25 for 6, and
    0.05 for 102.

    Args:
        caution: at least 1.
    """
    if caution <= 1:
        return 0.5
    z = _find_root(lambda z: _largest_regret(-z) - caution * _largest_regret(z), 0.0, 10.0)
    return upper_tail(z)


def _largest_regret(z: float) -> float:
    """Return the maximum over x of x * P(normal >= x + z): the expected loss if the truth lies x errors away."""
    normal = NormalDist()
    x = _find_root(lambda x: x * normal.pdf(x + z) - upper_tail(x + z), 0.0, 20.0)
    return x * upper_tail(x + z)


def _find_root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function turns positive, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def share_level(level: float, look: int) -> float:
    """Return the level of a challenge on test rows on which this champion has been challenged before.

    The first look has the whole level, each further one half of the one before it, so that trying seeds until one
    passes is not free: all further looks together have at most `level` once more.

    Args:
        level: of the first look.
        look: 1 for the first challenge of this champion on these rows, 2 for the second one, ...
    Raises:
        ValueError: `look` is below 1.
    """
    if look < 1:
        raise ValueError(f"look is {look}; the first challenge on some test rows is number 1")
    return float(level / 2 ** (look - 1))


def weigh_by_age(ages: Floats, half_life: float) -> Floats:
    """Return a weight for each row: 1 for age 0, half of it for each half-life.

    Args:
        ages: (rows,) not negative, in the unit of `half_life`.
        half_life: 0 or infinity: all rows weigh 1.
    """
    if not half_life or math.isinf(half_life):
        return np.ones(len(ages))
    return np.asarray(0.5 ** (ages / half_life), dtype=np.float64)


def balance_classes(weights: Floats, classes: Integers) -> Floats:
    """Return weights that give every class the same total, and all rows the same total as before.

    Args:
        weights: (rows,) of the rows before.
        classes: (rows,) number of each row's class.
    """
    totals = np.bincount(classes, weights)
    present = totals > 0
    factors = np.zeros(len(totals))
    factors[present] = weights.sum() / present.sum() / totals[present]
    return np.asarray(weights * factors[classes], dtype=np.float64)


def choose_temperatures(losses: Floats, weights: Floats, groups: Integers, folds: int = 2) -> Integers:
    """Return for each row the index of the temperature that fits the rows of other groups best.

    Args:
        losses: (rows, temperatures) loss of each row at each temperature.
        weights: (rows,).
        groups: (rows,) number of each row's group; a group lies in one fold.
        folds: number of parts; each row's temperature is chosen on the others.
    """
    numbers, group_of_row = np.unique(groups, return_inverse=True)
    fold_of_group = np.random.default_rng(0).permutation(len(numbers)) % folds
    fold = fold_of_group[group_of_row]
    chosen = np.zeros(len(losses), dtype=np.int64)
    for number in range(folds):
        others = fold != number
        if others.any():
            chosen[fold == number] = int(np.argmin(weights[others] @ losses[others]))
    return chosen
