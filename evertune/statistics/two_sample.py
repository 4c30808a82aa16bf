"""Have the rows changed? Several two-sample tests by the same permutations, one p-value for all of them.

Under the null all rows come from one source, so any deal of them into two sides is as likely as the one that was seen.
Each statistic is ranked among those of random deals; the smallest of the ranks is ranked again among the smallest of
each deal (Westfall & Young 1993, minP): the chance of a false alarm is the stated one, however many tests there are and
however they hang together. Rows of one group (near duplicates, a thread) are dealt together. Where the sides are alike
only within kinds of rows, which they hold in shares of their own, rows are dealt and compared within their kind.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
DEALS = 999  # at least; see `enough`
AT_ONCE = 1000  # deals that are held in memory
MOST = 1000  # rows of a side, drawn where there are more: the kernel of the embeddings has the square of it
STEPS = 64  # thresholds at which two distributions of a number are compared
WORDS = 500  # most frequent token ids whose shares are compared


@dataclass(frozen=True)
class Sample:
    """What is looked at of each row. What is empty is not tested.

    Args:
        embeddings: (rows, size) of a fixed model.
        lengths: (rows,) tokens.
        tokens: token ids of each row.
        languages: (rows,) code of the text's language.
        predicted: (rows,) the champion's label, or the commonest of its labels.
        scores: (rows,) how sure it is, 0 to 1.
        wrong: (rows,) 1 where it is wrong, 0 where it is right; needs the rows' labels.
        groups: (rows,) rows of one number are dealt together; None where each stands alone.
        kinds: (rows,) rows are compared with those of their own kind; None where all are of one.
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
        """Some of the rows."""
        values: dict[str, Any] = {}
        for name, value in vars(self).items():
            if value is not None:
                values[name] = [value[index] for index in indices] if isinstance(value, list) else value[indices]
        return Sample(**values)

    def __len__(self) -> int:
        return next((len(value) for value in vars(self).values() if value is not None), 0)


@dataclass(frozen=True)
class Finding:
    """One test.

    Args:
        statistic: its value; usual: the mean over random deals.
        p: of this test alone; adjusted: corrected for the number of tests.
    """

    test: str
    statistic: float
    usual: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class Drift:
    """What all tests say together.

    Args:
        p: chance of findings as strong as these, or stronger, in any of the tests where nothing has changed.
        rows: compared, on either side.
    """

    p: float
    rows: tuple[int, int]
    findings: tuple[Finding, ...] = field(default_factory=tuple)


def count_required_deals(level: float) -> int:
    """Deals with which a p-value can be well below a level: of k tests that all see a change it is about k / deals."""
    return max(DEALS, math.ceil(20 / level))


def compare_samples(reference: Sample, current: Sample, seed: int, deals: int = DEALS, max_rows: int = MOST) -> Drift:
    """Test all that both sides have.

    Args:
        reference: rows that the champion was not trained on, of the time that it knows; current: the new ones.
        deals: random ones, so that the smallest p-value is `1 / (deals + 1)`.
        most: rows of a side.
    Raises:
        ValueError: a side has no rows, they have no kind in common, or nothing to test.
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
    ranks = np.array(
        [_p_values(statistic_values) for statistic_values in values]
    )  # (tests, deals + 1), what was seen comes first
    findings = tuple(
        Finding(name, float(statistic_values[0]), float(statistic_values[1:].mean()), float(p[0]), float(adjusted))
        for name, statistic_values, p, adjusted in zip(names, values, ranks, _adjust_p_values(ranks), strict=True)
    )
    return Drift(min(finding.adjusted for finding in findings), (len(sides[0]), len(sides[1])), findings)


def _draw_rows(rows: Sample, max_rows: int, random: np.random.Generator) -> Sample:
    return rows if len(rows) <= max_rows else rows.take(np.sort(random.choice(len(rows), max_rows, replace=False)))


def _pool_column(sides: list[Sample], name: str) -> Any:
    parts = [getattr(side, name) for side in sides]
    if any(part is None for part in parts):
        return None
    return [*parts[0], *parts[1]] if name == "tokens" else np.concatenate(parts)


def _generate_weights(sides: list[Sample], deals: int, random: np.random.Generator) -> Iterator[Floats]:
    """(deals, rows), some at a time: 1/n for each of n rows on the current side, -1/m on the other; see `_kinds`.

    What was seen comes first.
    """
    sizes = [len(side) for side in sides]
    side = np.repeat([False, True], sizes)
    groups = _pool_column(sides, "groups")
    group = np.unique(np.arange(sum(sizes)) if groups is None else groups, return_inverse=True)[1]
    kind, shares = _number_kinds(sides)
    # A group that stands on both sides is dealt as the two parts that it is.
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
    """(rows,) of either side the weights, which sum up to 1, by which it is compared with the other.

    Raises:
        ValueError: the sides have no kind in common.
    """
    kind, shares = _number_kinds([reference, current])
    all_weights = _weigh_sides(np.repeat([False, True], [len(reference), len(current)])[None], kind, shares)[0]
    return -all_weights[: len(reference)], all_weights[len(reference) :]


def _number_kinds(sides: list[Sample]) -> tuple[NDArray[np.int64], Floats]:
    """(rows,) the number of each row's kind, and the share that each kind has in a comparison.

    It grows with the rows of the smaller side (Mantel & Haenszel 1959); a kind that one side lacks has none.
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
    """The weights of deals (deals, rows) that say which rows are on the current side."""
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
    """The largest difference of the two distribution functions (Kolmogorov & Smirnov), at quantiles of all rows."""
    bounds = np.unique(np.quantile(values, np.linspace(0, 1, STEPS + 2)[1:-1], method="lower"))
    below = (values[:, None] <= bounds).astype(np.float64)
    return lambda weights: np.abs(weights @ below).max(1)


def _share_distance(features: Floats) -> Statistic:
    """The sum of squared differences of the features' means, each over its variance."""
    variance = features.var(0)
    used = variance > 0
    scaled = features[:, used] / np.sqrt(variance[used])
    return lambda weights: ((weights @ scaled) ** 2).sum(1)


def _total_variation(features: Floats) -> Statistic:
    """Half the sum of the absolute differences of shares: the share of rows that would have to be others."""
    return lambda weights: np.abs(weights @ features).sum(1) / 2


def _one_hot_words(tokens: list[NDArray[np.int64]]) -> Floats:
    """(rows, words) whether a row has each of the most frequent token ids."""
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
    """Of each deal: the share of deals, itself included, whose statistic is as large."""
    rounded = np.round(values, 12)  # equal but for the order of a sum
    return 1 - np.searchsorted(np.sort(rounded), rounded, side="left") / len(values)


def _adjust_p_values(ranks: Floats) -> Floats:
    """Step-down minP: the p-value of each test, corrected for all whose own is not smaller."""
    order = np.argsort(ranks[:, 0], kind="stable")
    adjusted = np.empty(len(ranks))
    previous = 0.0
    for rank, test in enumerate(order):
        smallest = ranks[order[rank:]].min(0)
        previous = max(previous, float((smallest <= smallest[0]).mean()))
        adjusted[test] = previous
    return adjusted
