"""Have the rows changed? Several two-sample tests on the same permutations, with one p-value for all of them.

Under the null hypothesis all rows come from one source, so every assignment of rows to the two sides is as likely as
the observed one. Each statistic is ranked among those of random permutations; the smallest rank is ranked again among
the smallest of each permutation (Westfall & Young 1993, minP). The false-alarm rate is therefore the stated one,
however many tests there are and however they are correlated. Rows of one group (near-duplicates, a thread) are permuted
together. If the two sides hold kinds of rows in different shares, rows are permuted and compared within their kind.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
DEALS = 999  # fewest permutations; see `count_required_deals`
AT_ONCE = 1000  # permutations held in memory
MOST = 1000  # most rows of a side, drawn at random from more: the kernel of the embeddings has the square of it
STEPS = 64  # thresholds at which two distributions of a number are compared
WORDS = 500  # most frequent token ids whose shares are compared


@dataclass(frozen=True)
class Sample:
    """The tested properties of each row. A property that is None is not tested.

    Args:
        embeddings: (rows, size) from a fixed model.
        lengths: (rows,) number of tokens.
        tokens: token ids of each row.
        languages: (rows,) language code of the text.
        predicted: (rows,) the champion's label, or the most frequent of its labels.
        scores: (rows,) its confidence, 0 to 1.
        wrong: (rows,) 1 if its label is wrong, 0 if right; requires the rows' true labels.
        groups: (rows,) number of each row's group; rows of a group are permuted together. None: every row is its own.
        kinds: (rows,) rows are compared only with rows of the same kind; None: all are of one kind.
    """

    embeddings: Floats | None = None
    lengths: NDArray[Any] | None = None
    tokens: list[NDArray[np.int64]] | None = None
    languages: NDArray[np.str_] | None = None
    predicted: NDArray[Any] | None = None
    scores: Floats | None = None
    wrong: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    kinds: NDArray[Any] | None = None

    def take(self, indices: NDArray[np.int64]) -> "Sample":
        """Return the sample of some of the rows."""
        values: dict[str, Any] = {}
        for name, value in vars(self).items():
            if value is not None:
                values[name] = [value[index] for index in indices] if isinstance(value, list) else value[indices]
        return Sample(**values)

    def __len__(self) -> int:
        return next((len(value) for value in vars(self).values() if value is not None), 0)


@dataclass(frozen=True)
class Finding:
    """The result of one test.

    Args:
        test: its name.
        statistic: its value.
        usual: mean of the statistic over random permutations.
        p: p-value of this test alone.
        adjusted: p-value corrected for the number of tests.
    """

    test: str
    statistic: float
    usual: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class Drift:
    """The result of all tests together.

    Args:
        p: probability of a result at least as strong in any of the tests if nothing has changed.
        rows: number of compared rows (reference, current).
        findings: the result of each test.
    """

    p: float
    rows: tuple[int, int]
    findings: tuple[Finding, ...] = field(default_factory=tuple)


def count_required_deals(level: float) -> int:
    """Return how many permutations let a p-value fall well below a level.

    With k tests that all see a change, the p-value is about k / permutations.
    """
    return max(DEALS, math.ceil(20 / level))


def compare_samples(reference: Sample, current: Sample, seed: int, deals: int = DEALS, max_rows: int = MOST) -> Drift:
    """Test every property that both sides have.

    Args:
        reference: rows from the champion's own period that it was not trained on.
        current: the new rows.
        seed: of the permutations.
        deals: number of random permutations; the smallest possible p-value is `1 / (deals + 1)`.
        max_rows: most rows of a side.
    Raises:
        ValueError: a side has no rows, the sides have no kind in common, or there is nothing to test.
    """
    random = np.random.default_rng(seed)
    sides = [_draw_rows(side, max_rows, random) for side in (reference, current)]
    if not all(map(len, sides)):
        raise ValueError("both sides need rows")
    pooled = {name: _pool_column(sides, name) for name in sides[0].__dataclass_fields__}
    tests = dict(_build_tests(pooled))
    statistics = [
        [statistic(weight_rows) for statistic in tests.values()]
        for weight_rows in _generate_weights(sides, deals, random)
    ]
    names = list(tests)
    values = [np.concatenate(chunks) for chunks in zip(*statistics, strict=True)]
    # (tests, deals + 1); the observed assignment comes first
    ranks = np.array([_p_values(statistic_values) for statistic_values in values])
    findings = tuple(
        Finding(name, float(statistic_values[0]), float(statistic_values[1:].mean()), float(p[0]), float(adjusted))
        for name, statistic_values, p, adjusted in zip(names, values, ranks, _adjust_p_values(ranks), strict=True)
    )
    return Drift(min(finding.adjusted for finding in findings), (len(sides[0]), len(sides[1])), findings)


def _draw_rows(rows: Sample, max_rows: int, random: np.random.Generator) -> Sample:
    if len(rows) <= max_rows:
        return rows
    return rows.take(np.sort(random.choice(len(rows), max_rows, replace=False)))


def _pool_column(sides: list[Sample], name: str) -> Any:
    parts = [getattr(side, name) for side in sides]
    if any(part is None for part in parts):
        return None
    return [*parts[0], *parts[1]] if name == "tokens" else np.concatenate(parts)


def _generate_weights(sides: list[Sample], deals: int, random: np.random.Generator) -> Iterator[Floats]:
    """Yield weights (deals, rows), some at a time: 1/n for each of n rows on the current side, -1/m on the other.

    The observed assignment comes first. With kinds, see `_number_kinds`.
    """
    sizes = [len(side) for side in sides]
    side = np.repeat([False, True], sizes)
    groups = _pool_column(sides, "groups")
    group = np.unique(np.arange(sum(sizes)) if groups is None else groups, return_inverse=True)[1]
    kind, shares = _number_kinds(sides)
    # A group with rows on both sides is permuted as two parts.
    part = np.unique(group * 2 + side, return_inverse=True)[1]
    first = np.unique(part, return_index=True)[1]
    observed = side[first]
    yield _weigh_sides(observed[None, part], kind, shares)
    rows_by_kind = [np.flatnonzero(kind[first] == number) for number in range(len(shares))]
    for start in range(0, deals, AT_ONCE):
        permuted = np.empty((min(AT_ONCE, deals - start), len(observed)), dtype=bool)
        for deal in permuted:
            for rows in rows_by_kind:
                deal[rows] = random.permutation(observed[rows])
        yield _weigh_sides(permuted[:, part], kind, shares)


def compute_weights(reference: Sample, current: Sample) -> tuple[Floats, Floats]:
    """Return the weights (rows,) of each side by which it is compared with the other; each sums to 1.

    Raises:
        ValueError: the sides have no kind in common.
    """
    kind, shares = _number_kinds([reference, current])
    all_weights = _weigh_sides(np.repeat([False, True], [len(reference), len(current)])[None], kind, shares)[0]
    return -all_weights[: len(reference)], all_weights[len(reference) :]


def _number_kinds(sides: list[Sample]) -> tuple[NDArray[np.int64], Floats]:
    """Return the number of each row's kind, (rows,), and each kind's share of the comparison.

    The share grows with the rows of the smaller side (Mantel & Haenszel 1959); a kind that one side lacks has share 0.
    """
    side = np.repeat([False, True], [len(sample) for sample in sides])
    kind_values = _pool_column(sides, "kinds")
    kind = np.unique(np.zeros(len(side)) if kind_values is None else kind_values, return_inverse=True)[1]
    counts = [np.bincount(kind[side == on_current], minlength=kind.max() + 1) for on_current in (False, True)]
    shares = counts[0] * counts[1] / (counts[0] + counts[1])
    if not shares.any():
        raise ValueError("the sides have no kind of rows in common")
    return kind, shares / shares.sum()


def _weigh_sides(current: NDArray[np.bool_], kind: NDArray[np.int64], shares: Floats) -> Floats:
    """Return the weights of assignments (deals, rows) that say which rows are on the current side."""
    side_weights = np.zeros(current.shape)
    for number, share in enumerate(shares):
        if share:
            in_kind = kind == number
            current_in_kind = current[:, in_kind]
            count = current_in_kind.sum(1, keepdims=True)
            side_weights[:, in_kind] = share * np.where(
                current_in_kind, 1 / np.maximum(count, 1), -1 / np.maximum(current_in_kind.shape[1] - count, 1)
            )
    return side_weights


def _build_tests(pooled: dict[str, Any]) -> Iterator[tuple[str, Statistic]]:
    if pooled["embeddings"] is not None:
        yield "embedding", _mean_discrepancy(pooled["embeddings"])
    if pooled["tokens"] is not None:
        yield "vocabulary", _share_distance(_one_hot_words(pooled["tokens"]))
    if pooled["languages"] is not None:
        yield "language", _total_variation(_one_hot(pooled["languages"]))
    for name, test in (("lengths", "length"), ("scores", "confidence")):
        if pooled[name] is not None:
            yield test, _distribution_distance(pooled[name])
    if pooled["predicted"] is not None:
        yield "prediction", _share_distance(_one_hot(pooled["predicted"]))
    if pooled["wrong"] is not None:
        yield "performance", lambda weights: weights @ pooled["wrong"].astype(np.float64)


def _mean_discrepancy(embeddings: Floats) -> Statistic:
    """Maximum mean discrepancy (Gretton et al. 2012), Gaussian kernel as wide as the median distance."""
    states = embeddings.astype(np.float64)
    squares = (states**2).sum(1)
    distances = np.maximum(squares[:, None] + squares - 2 * states @ states.T, 0)
    kernel = np.exp(-distances / max(float(np.median(distances)), 1e-12))
    return lambda weights: ((weights @ kernel) * weights).sum(1)


def _distribution_distance(values: NDArray[Any]) -> Statistic:
    """Largest difference of the two distribution functions (Kolmogorov & Smirnov), at quantiles of all rows."""
    bounds = np.unique(np.quantile(values, np.linspace(0, 1, STEPS + 2)[1:-1], method="lower"))
    below = (values[:, None] <= bounds).astype(np.float64)
    return lambda weights: np.abs(weights @ below).max(1)


def _share_distance(features: Floats) -> Statistic:
    """Sum of squared differences of the features' means, each divided by the feature's variance."""
    variance = features.var(0)
    used = variance > 0
    scaled = features[:, used] / np.sqrt(variance[used])
    return lambda weights: ((weights @ scaled) ** 2).sum(1)


def _total_variation(features: Floats) -> Statistic:
    """Half the sum of absolute differences of shares: the share of rows that would have to change."""
    return lambda weights: np.abs(weights @ features).sum(1) / 2


def _one_hot_words(tokens: list[NDArray[np.int64]]) -> Floats:
    """Return (rows, words): 1 where a row contains one of the most frequent token ids."""
    distinct = [np.unique(token_ids) for token_ids in tokens]
    ids, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *distinct]), return_counts=True)
    frequent_ids = np.sort(ids[np.argsort(-counts, kind="stable")[:WORDS]])
    has_word = np.zeros((len(tokens), len(frequent_ids)))
    for row, row_ids in enumerate(distinct):
        has_word[row, np.flatnonzero(np.isin(frequent_ids, row_ids))] = 1
    return has_word


def _one_hot(values: NDArray[Any]) -> Floats:
    names, codes = np.unique(values, return_inverse=True)
    return np.eye(len(names))[codes]


def _p_values(values: Floats) -> Floats:
    """Return for each permutation the share of permutations, itself included, whose statistic is at least as large."""
    rounded = np.round(values, 12)  # sums of the same numbers in another order are equal
    return 1 - np.searchsorted(np.sort(rounded), rounded, side="left") / len(values)


def _adjust_p_values(ranks: Floats) -> Floats:
    """Return the step-down minP p-value of each test, corrected for all tests whose own is not smaller."""
    order = np.argsort(ranks[:, 0], kind="stable")
    adjusted = np.empty(len(ranks))
    previous = 0.0
    for rank, test in enumerate(order):
        smallest = ranks[order[rank:]].min(0)
        previous = max(previous, float((smallest <= smallest[0]).mean()))
        adjusted[test] = previous
    return adjusted
