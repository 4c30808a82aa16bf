"""Resampling and multiple testing against what textbooks and closed forms say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

from evertune.errors import DataError
from evertune.statistics.paired_tests import share_detectable, share_lower_bound, share_score, upper_z
from evertune.statistics.resampling import (
    bootstrap_intervals,
    count_exceedances,
    holm,
    paired_difference,
    spend_alpha,
    swap_test,
)
from tests.helpers.gate import accuracy, stats


def share(sums):
    return accuracy(sums)["accuracy"]


def test_swapping_agrees_with_the_exact_sign_test():
    """Nine fixes and one break: P(Binomial(10, 1/2) >= 9) = 11 / 1024."""
    challenger = stats([1] * 9 + [0] + [1] * 50)
    champion = stats([0] * 9 + [1] + [1] * 50)
    better, worse = swap_test(challenger, champion, share, 2000, 1, 0.001)
    assert better == pytest.approx(11 / 1024, rel=0.35)
    assert worse == pytest.approx(1023 / 1024, rel=0.01)


def test_small_levels_are_reached_and_the_bounded_tail_stays_above_the_exact_one():
    """Fourteen fixes, no break: p = 2**-14 exactly."""
    challenger = stats(np.ones(100))
    champion = stats(np.arange(100) >= 14)
    assert swap_test(challenger, champion, share, 500, 1, 2.5e-4)[0] == pytest.approx(2**-14, abs=7e-5)
    assert 2**-14 < swap_test(challenger, champion, share, 500, 1, 1e-6)[0] < 2**-14 * 20


def test_a_paired_difference_has_the_variance_of_paired_proportions():
    challenger = stats(np.arange(1000) >= 20)
    champion = stats((np.arange(1000) < 850) | (np.arange(1000) >= 900))
    found = difference(challenger, champion, share, resamples=4000, alpha=0.05, harm_alpha=0.05)
    error = np.sqrt((0.07 - 0.03**2) / 1000)
    assert found.estimate == pytest.approx(0.03)
    assert found.low == pytest.approx(0.03 - 1.645 * error, abs=0.001)
    assert found.high == pytest.approx(0.03 + 1.645 * error, abs=0.001)
    assert found.spread == pytest.approx(0.07, rel=0.1)


@pytest.mark.parametrize("alpha", [0.03, 0.0012])
@pytest.mark.parametrize(("rows", "margin", "differ"), [(100, 0.05, 0.1), (300, 0.02, 0.04), (300, 0.05, 0.1)])
def test_the_lower_bound_holds_its_level_for_small_samples(rows, margin, differ, alpha):
    """Exact, over every table of paired outcomes; the bootstrap's own spread misses it by up to two thirds here."""
    passed = 0.0
    for fixes in range(rows // 4):
        for breaks in range(rows // 3):
            chances = [(differ - margin) / 2, (differ + margin) / 2, 1 - differ]
            chance = multinomial.pmf([fixes, breaks, rows - fixes - breaks], rows, chances)
            if chance > 1e-12:
                passed += chance * (
                    share_score((fixes - breaks) / rows, (fixes + breaks) / rows, rows, -margin) > upper_z(alpha)
                )
    assert 0 < passed <= alpha


def test_a_lower_bound_is_where_its_score_meets_the_level():
    for gap, discordance, rows in ((0.03, 0.07, 1000), (-0.1, 0.2, 60), (0.0, 0.0, 100)):
        bound = share_lower_bound(gap, discordance, rows, 0.01)
        assert share_score(gap, discordance, rows, bound) == pytest.approx(upper_z(0.01), rel=1e-3)
    assert bound == pytest.approx(-(upper_z(0.01) ** 2) / (100 + upper_z(0.01) ** 2))


def test_equal_metrics_summed_in_another_order_are_a_tie():
    assert count_exceedances(np.array([0.3, 0.2, np.nan]), 0.1 + 0.2) == (2, 3)
    assert count_exceedances(np.array([0.1 + 0.2]), 0.3) == (1, 1)


def test_the_bounded_tail_stays_above_the_exact_one_where_the_normal_one_does_not():
    """70 fixes, 30 breaks: P(Binomial(100, 1/2) >= 70) = 3.9e-5, above the normal tail."""
    was = np.arange(200) % 2 == 0
    now = np.arange(200) % 2 == 0
    was[:100] = np.arange(100) >= 70
    now[:100] = np.arange(100) < 70
    tail = swap_test(stats(now), stats(was), share, 5000, 1, 1e-6)[0]
    assert binom.sf(69, 100, 0.5) < tail < 4 * binom.sf(69, 100, 0.5)


def test_an_interval_covers_a_share_as_the_binomial_does():
    found = bootstrap_intervals(stats(np.arange(500) < 400), accuracy, 4000, 0.95, 1)["accuracy"]
    error = 1.96 * np.sqrt(0.8 * 0.2 / 500)
    assert found == pytest.approx((0.8, 0.8 - error, 0.8 + error), abs=0.004)
    with pytest.raises(DataError):
        bootstrap_intervals(np.zeros((0, 2), np.float32), accuracy, 200, 0.95, 1)


def test_more_rows_than_one_piece_give_the_same_answer(monkeypatch):
    rows = stats(np.arange(300) < 200)
    whole = bootstrap_intervals(rows, accuracy, 400, 0.95, 1)
    monkeypatch.setattr("evertune.statistics.resampling.CELLS", 1000)
    assert bootstrap_intervals(rows, accuracy, 400, 0.95, 1) == whole


def test_holm_on_the_textbook_example():
    """Holm (1979): 0.01 and 0.015 pass at 0.05 / 3 and 0.05 / 2 where Bonferroni would pass one; 0.2 stops there."""
    assert holm([0.2, 0.01, 0.02], 0.05) == pytest.approx([0.05, 0.05 / 3, 0.05 / 2])
    assert holm([0.04, 0.03, 0.001], 0.05) == pytest.approx([0.0, 0.025, 0.05 / 3])
    assert holm([], 0.05) == []


def test_all_nights_together_spend_no_more_than_alpha():
    assert 0.0499 < sum(spend_alpha(0.05, night) for night in range(1, 2000)) < 0.05
    with pytest.raises(ValueError, match="number 1"):
        spend_alpha(0.05, 0)


@settings(deadline=None)
@given(st.integers(1, 10**6), st.floats(1e-6, 0.4), st.floats(0.01, 0.5))
def test_more_rows_and_a_looser_level_detect_smaller_differences(rows, alpha, discordance):
    here = share_detectable(rows, alpha, discordance=discordance)
    assert 0 < here <= 1
    assert share_detectable(2 * rows, alpha, discordance=discordance) <= here + 1e-9
    assert share_detectable(rows, alpha * 1.1, discordance=discordance) <= here + 1e-9


@pytest.mark.parametrize(("rows", "discordance"), [(62, 0.1), (200, 0.1), (1000, 0.05)])
def test_a_detectable_difference_is_found_with_the_power_it_claims(rows, discordance):
    """By the sign test and McNemar's z, both at 0.03, over 50,000 samples of exactly that difference."""
    gap = share_detectable(rows, 0.03, discordance=discordance)
    differ = max(discordance, gap)
    chances = [(differ + gap) / 2, (differ - gap) / 2, 1 - differ]
    fixes, breaks, _ = np.random.default_rng(1).multinomial(rows, chances, 50_000).T
    z = (fixes - breaks) / np.sqrt(np.maximum(1, fixes + breaks))
    found = (binom.sf(fixes - 1, fixes + breaks, 0.5) <= 0.03) & (z >= upper_z(0.03))
    assert 0.8 <= found.mean() < 0.92


def test_rows_that_do_not_differ_still_leave_room_on_both_sides():
    found = difference(stats(np.ones(100)), stats(np.ones(100)), share)
    assert found.low == -found.high == pytest.approx(-0.0514, abs=1e-4)


def test_a_skewed_metric_widens_the_bounds_to_its_percentiles():
    """The square root of 3 hits in 200 rows: one resample in 20 has no hit at all, below what its spread tells."""
    few = stats(np.arange(200) < 3)
    none = stats(np.zeros(200))
    assert difference(few, none, lambda sums: np.sqrt(share(sums))).low == 0
    assert difference(none, few, lambda sums: np.sqrt(share(sums))).high == 0


def difference(challenger, champion, value, **how):
    how = {"resamples": 1000, "alpha": 0.01, "harm_alpha": 0.01, **how}
    return paired_difference(challenger, champion, value, groups=np.arange(len(challenger)), seed=1, **how)


def test_a_p_value_far_from_a_tiny_level_is_not_bounded_but_counted():
    """6 fixes, 4 breaks: P(Binomial(10, 1/2) >= 6) = 0.377."""
    was = np.ones(100, bool)
    now = np.ones(100, bool)
    was[:6] = False
    now[6:10] = False
    assert swap_test(stats(now), stats(was), share, 2000, 1, 1e-6)[0] == pytest.approx(0.377, abs=0.04)
