"""The gate over metrics that are no shares of right rows: bits per byte, perplexity, correlations."""

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from evertune.config import Gate
from evertune.gate.decide import Case, Scored, decide_promotion
from evertune.objectives import causal_lm, pair_regression
from evertune.statistics.paired_tests import NUMBER, find_kind, format_amount, number_detectable, upper_tail, upper_z
from evertune.statistics.resampling import paired_difference

ROWS = 120


def texts(rng, gain=0.0, scatter=0.15, rows=ROWS):
    """What two language models say of texts of about 250 bytes: the first needs `gain` bits a byte less."""
    size = rng.integers(150, 350, rows)
    theirs = size * (2.1 + 0.3 * rng.standard_normal(rows)) * np.log(2)
    ours = theirs - size * (gain + scatter * rng.standard_normal(rows)) * np.log(2)
    none = np.zeros((rows, 4))
    return [np.column_stack([nats, size, size, none]) for nats in (ours, theirs)]


def ask(sides, metric="bits_per_byte", **rule):
    rule = {"noninferior_on": {}, "superior_on": "test", **rule}
    scored = Scored(*sides, np.ones(len(sides[0]), bool))
    return decide_promotion(
        Case(
            scored,
            lambda sums: causal_lm.compute_metrics(sums, []),
            metric,
            Gate(**rule),
            causal_lm.LOWER_IS_BETTER,
            1,
            500,
            3,
            no_shares=causal_lm.ABSOLUTE_METRICS,
        )
    )


@pytest.mark.parametrize("metric", ["bits_per_byte", "perplexity"])
def test_a_language_model_that_is_a_little_better_everywhere_is_promoted(metric):
    said = ask(texts(np.random.default_rng(1), gain=0.06), metric)
    assert said.verdict == "promoted", said.reason
    assert metric.replace("_", " ") in said.reason and "points" not in said.reason


@pytest.mark.parametrize("metric", ["bits_per_byte", "perplexity"])
def test_one_that_is_worse_is_rejected_and_one_whose_gain_is_noise_is_held(metric):
    said = ask(texts(np.random.default_rng(2), gain=-0.06), metric)
    assert said.verdict == "rejected" and "Worse by 0." in said.reason, said.reason
    said = ask(texts(np.random.default_rng(3), gain=-0.01), metric)
    assert said.verdict == "held" and "detect gains of 0." in said.reason, said.reason


def test_equal_models_are_promoted_as_seldom_as_the_first_night_allows():
    found = [ask(texts(np.random.default_rng([7, number]))).verdict == "promoted" for number in range(300)]
    assert sum(found) <= binom.ppf(0.999, len(found), 0.05 * 6 / np.pi**2)


def test_one_as_much_worse_as_the_margin_passes_as_seldom_as_the_level_allows():
    rule = Gate(noninferior_on={"test": 0.05}, superior_on="test")
    passed = 0
    for number in range(300):
        sides = texts(np.random.default_rng([8, number]), gain=-0.05)
        found = difference(sides, alpha=0.05)
        passed += found.low > -rule.noninferior_on["test"]
    assert 3 < passed <= binom.ppf(0.999, 300, 0.05)


def difference(sides, alpha):
    return paired_difference(
        *sides,
        lambda sums: -causal_lm.compute_metrics(sums, [])["bits_per_byte"],
        groups=np.arange(len(sides[0])),
        resamples=500,
        seed=3,
        alpha=alpha,
        harm_alpha=alpha,
        kind=NUMBER,
    )


def test_the_score_of_numbers_is_near_students_t_and_never_surer():
    values = np.random.default_rng(5).normal(0.4, 1, 40)
    z = NUMBER.score(values.mean(), (values**2).mean(), 40, 0)
    assert ttest_1samp(values, 0, alternative="greater").pvalue == pytest.approx(upper_tail(z), rel=0.15)
    assert NUMBER.score(1.0, 1.0, 9, 0) == 3  # nine rows that differ by exactly one
    assert NUMBER.lower_bound(1.0, 1.0, 9, 1e-4) == -np.inf


def test_a_lower_bound_of_numbers_is_where_its_score_meets_the_level():
    bound = NUMBER.lower_bound(0.3, 0.5, 200, 0.01)
    assert NUMBER.score(0.3, 0.5, 200, bound) == pytest.approx(upper_z(0.01))


def test_a_detectable_number_is_found_with_the_power_it_claims():
    gap = number_detectable(ROWS, 0.03, 0.0, 0.04)
    drawn = np.random.default_rng(6).normal(gap, 0.2, (20_000, ROWS))
    scores = [NUMBER.score(one.mean(), (one**2).mean(), ROWS, 0) for one in drawn[:4000]]
    assert 0.77 < np.mean(np.array(scores) >= upper_z(0.03)) < 0.83


def test_a_better_correlation_is_promoted_in_its_own_unit():
    rng = np.random.default_rng(9)
    true = rng.normal(size=400)
    targets = [str(one) for one in true]
    sides = [
        pair_regression.compute_statistics(targets, [{"score": one} for one in true + noise * rng.normal(size=400)], [])
        for noise in (0.6, 1.0)
    ]
    scored = Scored(*sides, np.ones(400, bool))
    said = decide_promotion(
        Case(
            scored,
            lambda sums: pair_regression.compute_metrics(sums, []),
            "pearson",
            Gate(noninferior_on={}, superior_on="test"),
            pair_regression.LOWER_IS_BETTER,
            1,
            500,
            3,
            no_shares=pair_regression.ABSOLUTE_METRICS,
        )
    )
    assert said.verdict == "promoted" and "pearson on 400 test rows" in said.reason, said.reason


def test_shares_are_told_in_points_and_other_numbers_in_their_own_unit():
    assert format_amount(0.0312, "accuracy", find_kind("accuracy", ())) == "3.1 points"
    assert (
        format_amount(0.0312, "bits_per_byte", find_kind("bits_per_byte", ["bits_per_byte"])) == "0.0312 bits per byte"
    )
