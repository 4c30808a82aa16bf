"""The test of a mean difference by group: its level, its levels of caution, and what it does where nothing is sure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evertune.statistics import expected_gain as gain
from evertune.statistics.resampling import linearize_metric

LEVEL = 0.25


def measure(differences, weights=None, groups=None, seed=0):
    differences = np.asarray(differences, dtype=float)
    weights = np.ones(len(differences)) if weights is None else np.asarray(weights, dtype=float)
    groups = np.arange(len(differences)) if groups is None else np.asarray(groups)
    return gain.measure_gain(differences, weights, groups, seed)


def promotes(result: gain.ExpectedGain) -> bool:
    return max(result.p, result.p_without_top) <= LEVEL


def test_mean_and_error_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(1)
    differences, weights, groups = rng.normal(size=60), rng.random(60), rng.integers(0, 20, 60)
    result = measure(differences, weights, groups)
    mean = (weights * differences).sum() / weights.sum()
    sums = [(weights * (differences - mean))[groups == group].sum() for group in np.unique(groups)]
    assert result.mean == pytest.approx(mean)
    assert result.error == pytest.approx(np.sqrt((np.array(sums) ** 2).sum()) / weights.sum())
    assert (result.rows, result.groups) == (60, len(np.unique(groups)))


@pytest.mark.parametrize("differences", [[0.3] * 50, [0.0] * 50, [0.5], []])
def test_without_any_scatter_nothing_is_sure(differences: list[float]) -> None:
    """One row, or rows that all differ alike, promote nothing whatever the level is."""
    result = measure(differences)
    assert result.p == result.p_without_top == 1.0


def test_one_group_alone_does_not_promote() -> None:
    differences = np.zeros(100)
    differences[0] = 5.0
    result = measure(differences)
    assert result.p <= 0.5 and result.p_without_top == 1.0
    assert result.top_share == pytest.approx(1.0)
    many = np.zeros(100)
    many[:10] = 0.5
    grouped = np.where(np.arange(100) < 10, 0, np.arange(100))
    assert promotes(measure(many)) and not promotes(measure(many, groups=grouped))


def test_rows_of_weight_zero_do_not_count() -> None:
    rng = np.random.default_rng(2)
    differences = rng.normal(0.2, 1, 80)
    half = measure(differences[:40])
    weighed = measure(differences, np.arange(80) < 40)
    assert (weighed.mean, weighed.p, weighed.rows) == (half.mean, half.p, 40)


@pytest.mark.parametrize("rows", [4, 12, 30, 200])
@pytest.mark.parametrize("size", [1, 3])
def test_models_that_are_equal_in_expectation_pass_at_most_at_the_level(rows: int, size: int) -> None:
    """Groups of rows that end alike, with a symmetric scatter; 600 looks."""
    looks = 600
    passed = 0
    for look in range(looks):
        rng = np.random.default_rng([rows, size, look])
        groups = np.arange(rows) // size
        passed += promotes(measure(rng.standard_t(4, rows)[groups], groups=groups, seed=look))
    assert passed <= binom.ppf(0.995, looks, LEVEL)


@given(st.integers(2, 11), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_few_groups_are_flipped_in_every_way(groups: int, seed: int) -> None:
    gains = np.random.default_rng(seed).normal(size=groups)
    signs = np.array(np.meshgrid(*[[-1, 1]] * groups)).reshape(groups, -1)
    assert gain.flip_signs(gains, 0) == pytest.approx((gains @ signs >= gains.sum() - 1e-9).mean())


def test_a_level_for_each_caution() -> None:
    """6 is a quarter, 102 is one in twenty (Tetenov 2012); more caution, a smaller level."""
    assert gain.level_of_caution(1) == 0.5
    assert gain.level_of_caution(6) == pytest.approx(0.25, abs=0.005)
    assert gain.level_of_caution(102) == pytest.approx(0.05, abs=0.0005)
    levels = [gain.level_of_caution(caution) for caution in (1, 1.5, 3, 6, 20, 1000)]
    assert levels == sorted(levels, reverse=True)


def test_further_looks_at_the_same_rows_have_half_the_level_each() -> None:
    assert [gain.share_level(0.2, look) for look in (1, 2, 3)] == [0.2, 0.1, 0.05]
    with pytest.raises(ValueError, match="number 1"):
        gain.share_level(0.2, 0)


def test_age_and_class_weigh() -> None:
    assert gain.weigh_by_age(np.array([0.0, 10, 20]), 10).tolist() == [1, 0.5, 0.25]
    assert gain.weigh_by_age(np.array([0.0, 10]), 0).tolist() == [1, 1]
    weights = gain.balance_classes(np.ones(10), np.array([0] * 8 + [1] * 2))
    assert weights[:8].sum() == pytest.approx(weights[8:].sum()) == pytest.approx(5)


@given(st.integers(0, 2**31), st.integers(2, 60))
@settings(max_examples=30, deadline=None)
def test_a_row_never_chooses_its_own_temperature(seed: int, rows: int) -> None:
    """Changing a group's losses changes the temperatures of other groups alone."""
    rng = np.random.default_rng(seed)
    losses = rng.random((rows, 5))
    groups = rng.integers(0, max(2, rows // 2), rows)
    before = gain.choose_temperatures(losses, np.ones(rows), groups)
    other = losses.copy()
    mine = groups == groups[0]
    other[mine] = rng.random((mine.sum(), 5))
    assert (gain.choose_temperatures(other, np.ones(rows), groups)[mine] == before[mine]).all()


def test_a_metric_is_the_mean_of_what_its_rows_add() -> None:
    rng = np.random.default_rng(3)
    right = rng.random(50) < 0.7
    stats = np.stack([np.ones(50), right], axis=1)
    values = linearize_metric(stats, lambda sums: sums[..., 1] / sums[..., 0])
    assert values == pytest.approx(right.astype(float), abs=1e-5)
