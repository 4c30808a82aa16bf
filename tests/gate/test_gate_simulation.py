"""The gate's error rates, by simulation; `benchmarks/gate/run.py` measures more, for docs/explanation/gate.md."""

import numpy as np
import pytest
from scipy.stats import binom

from evertune.config import Gate
from evertune.gate.decide import Case, Scored, decide_promotion
from tests.helpers.gate import accuracy

pytestmark = pytest.mark.slow

ALPHA = 0.05
NIGHTS = 30


def models(rng, rows, fixes, breaks, champion=0.85):
    """Challenger and champion; `fixes` and `breaks` are shares of all rows."""
    was = rng.random(rows) < champion
    u = rng.random(rows)
    now = np.where(was, u >= breaks / champion, u < fixes / (1 - champion))
    return [np.stack([np.ones(rows), right], axis=1).astype(np.float32) for right in (now, was)]


def grouped(rng, rows, size, tied, fixes, breaks):
    """Models whose rows stand in groups of `size`, and the groups; a share `tied` of rows ends as its group's first."""
    groups = np.arange(rows) // size
    row = np.where(rng.random(rows) < tied, groups * size, np.arange(rows))
    return [side[row] for side in models(rng, rows, fixes, breaks)], groups


def ask(sides, fresh, night, seed, groups=None, **rule):
    scored = Scored(sides[0], sides[1], fresh, groups=groups)
    return decide_promotion(Case(scored, accuracy, "accuracy", Gate(**rule), (), night, 200, seed))


def at_most(histories, rate=ALPHA):
    """The count that a true rate of `rate` exceeds in one of 1,000 such tests."""
    return binom.ppf(0.999, histories, rate)


@pytest.mark.parametrize("differ", [0.05, 0.10])
def test_equal_models_are_promoted_in_at_most_alpha_of_the_histories(differ):
    """30 nights, 20 to 40 more fresh test rows each, a new challenger each night, and nothing but superiority asked."""
    histories = 60
    promoted = nightly = 0
    for history in range(histories):
        rng = np.random.default_rng([history, int(100 * differ)])
        rows = 0
        wrong = False
        naive = False
        for night in range(1, NIGHTS + 1):
            rows += int(rng.integers(20, 41))
            said = ask(
                models(rng, rows, differ / 2, differ / 2), np.ones(rows, bool), night, history, noninferior_on={}
            )
            wrong |= said.verdict == "promoted"
            naive |= any(item["p"] is not None and item["p"] <= ALPHA for item in said.evidence)
        promoted = promoted + wrong
        nightly = nightly + naive
    assert promoted <= at_most(histories)
    assert nightly > at_most(histories), "the simulation must be one that an unbudgeted gate fails"


def test_a_model_that_forgets_the_margin_is_promoted_in_at_most_alpha_of_the_histories():
    """Far better on 60 fresh rows, exactly the margin worse on 500 history rows; 8 nights spend 93% of the budget."""
    histories = 60
    promoted = 0
    fresh = np.arange(560) >= 500
    for history in range(histories):
        rng = np.random.default_rng(history)
        wrong = False
        for night in range(1, 9):
            pairs = zip(models(rng, 500, 0.03, 0.08), models(rng, 60, 0.75, 0.0, 0.2), strict=True)
            sides = [np.concatenate(pair) for pair in pairs]
            said = ask(sides, fresh, night, history, noninferior_on={"history": 0.05})
            wrong |= said.verdict == "promoted"
        promoted += wrong
    assert promoted <= at_most(histories)


def test_three_points_on_a_thousand_fresh_rows_are_found_on_the_first_night():
    """Champion right on 85%; the challenger mends 5% of the rows, breaks 2%; equal on 3,000 history rows."""
    trials = 200
    fresh = np.arange(4000) >= 3000
    found = 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        pairs = zip(models(rng, 3000, 0.02, 0.02), models(rng, 1000, 0.05, 0.02), strict=True)
        found += ask([np.concatenate(pair) for pair in pairs], fresh, 1, trial).verdict == "promoted"
    assert found >= 0.8 * trials


@pytest.mark.parametrize("rows", [20, 40, 60])
def test_few_rows_hold_the_level(rows):
    """One look at level 0.03 (night 1), equal models that differ on 10% of the rows."""
    trials = 400
    promoted = 0
    for trial in range(trials):
        sides = models(np.random.default_rng([trial, rows]), rows, 0.05, 0.05)
        said = ask(sides, np.ones(rows, bool), 1, trial, noninferior_on={}, min_rows=2)
        promoted += said.verdict == "promoted"
    assert promoted <= at_most(trials, ALPHA * 6 / np.pi**2)


def test_five_points_worse_is_never_promoted_and_mostly_rejected():
    verdicts = []
    for trial in range(100):
        sides = models(np.random.default_rng(trial), 600, 0.02, 0.07)
        verdicts.append(ask(sides, np.ones(600, bool), 1, trial, noninferior_on={}).verdict)
    assert "promoted" not in verdicts and verdicts.count("rejected") >= 90


@pytest.mark.parametrize(("size", "tied"), [(3, 1.0), (5, 0.5), (10, 1.0)])
def test_rows_that_are_right_or_wrong_together_hold_the_level(size, tied):
    """One look at night 1's level, equal models on 300 rows; were each row a witness of its own, far too many pass."""
    trials = 300
    verdicts = []
    naive = 0
    for trial in range(trials):
        sides, groups = grouped(np.random.default_rng([trial, size]), 300, size, tied, 0.05, 0.05)
        verdicts.append(ask(sides, np.ones(300, bool), 1, trial, groups, noninferior_on={}).verdict)
        naive += ask(sides, np.ones(300, bool), 1, trial, noninferior_on={}).verdict == "promoted"
    allowed = at_most(trials, ALPHA * 6 / np.pi**2)
    assert verdicts.count("promoted") <= allowed
    assert verdicts.count("rejected") <= at_most(trials, ALPHA)
    assert naive > allowed, "the simulation must be one that a gate of single rows fails"


@pytest.mark.parametrize(("size", "tied"), [(3, 1.0), (5, 0.5)])
def test_forgetting_is_found_in_grouped_history(size, tied):
    """Far better on 100 fresh rows, exactly the margin worse on 400 history rows in groups."""
    trials = 300
    promoted = 0
    fresh = np.arange(500) >= 400
    for trial in range(trials):
        rng = np.random.default_rng([trial, size])
        old, groups = grouped(rng, 400, size, tied, 0.04, 0.09)
        sides = [np.concatenate(pair) for pair in zip(old, models(rng, 100, 0.75, 0.0, 0.2), strict=True)]
        groups = np.concatenate([groups, 400 + np.arange(100)])
        promoted += ask(sides, fresh, 1, trial, groups, noninferior_on={"history": 0.05}).verdict == "promoted"
    assert promoted <= at_most(trials, ALPHA * 6 / np.pi**2)


def test_a_gain_is_found_in_groups_of_rows_that_are_independent_after_all():
    """3 points on 1,000 fresh rows: reading groups of three as if they might be one costs little."""
    found = 0
    for trial in range(100):
        sides, groups = grouped(np.random.default_rng(trial), 1000, 3, 0.0, 0.05, 0.02)
        found += ask(sides, np.ones(1000, bool), 1, trial, groups, noninferior_on={}).verdict == "promoted"
    assert found >= 80
