"""The rule `expected`: what it weighs, what it refuses, and that it fails closed."""

import json

import numpy as np
import pytest

from evertune.config import Gate
from evertune.errors import DataError
from evertune.gate import challenge
from evertune.gate.decide import Case, Scored, decide_promotion
from evertune.gate.expected import RowScores, choose_level, estimate_wait, weigh_rows
from evertune.records import Evaluation
from evertune.statistics import expected_gain
from tests.helpers.gate import accuracy, stats

ROWS = 300


def draw(gain=0.0, rows=ROWS, seed=0, spread=0.3):
    """Scores of two models, the challenger better by `gain` in expectation, and whether each row is right."""
    rng = np.random.default_rng(seed)
    champion = np.minimum(rng.normal(-0.5, 0.4, rows), 0.0)
    challenger = champion + rng.normal(gain, spread, rows)
    return challenger, champion


def build_case(challenger, champion, *, classes=None, new=None, groups=None, right=None, metric="accuracy", **rest):
    rows = len(challenger)
    rule = rest.pop("rule", {})
    look = rest.pop("look", 1)
    days = rest.pop("days", np.zeros(rows))
    now, was = right or (np.arange(rows) % 5 > 0, np.arange(rows) % 5 > 0)
    scores = RowScores(
        challenger=np.asarray(challenger, float).reshape(rows, -1),
        champion=np.asarray(champion, float).reshape(rows, -1),
        sizes=np.ones(rows),
        days=days,
        ingests=np.zeros(rows),
        classes=np.arange(rows) % 4 if classes is None else classes,
    )
    scored = Scored(stats(now), stats(was), np.arange(rows) > rows // 2, groups=groups, has_new_label=new, **rest)
    metrics = accuracy if metric == "accuracy" else (lambda sums: {metric: sums[..., 1] / sums[..., 0]})
    return Case(scored, metrics, metric, Gate(**rule), (), 1, 300, 3, scores=scores, look=look)


def decide(*models, **rest):
    return decide_promotion(build_case(*models, **rest))


def test_a_better_model_is_promoted_and_says_how_sure_that_is() -> None:
    decision = decide(*draw(0.05))
    assert decision.verdict == "promoted"
    (item,) = [item for item in decision.evidence if item["test"] == "expected"]
    assert item["p"] <= item["threshold"] == pytest.approx(0.252, abs=0.001)
    assert item["estimate"] == pytest.approx(0.05, abs=0.03) and item["passed"] and item["look"] == 1
    assert f"(p = {item['p']:.2g}, threshold 0.25)" in decision.reason


def test_the_level_follows_the_caution() -> None:
    models = draw(0.03)
    bold, careful = (decide(*models, rule={"caution": caution}) for caution in (6, 500))
    assert (bold.verdict, careful.verdict) == ("promoted", "held")
    assert "more labelled test rows would be enough" in careful.reason


def test_a_held_challenger_says_what_it_waits_for() -> None:
    """With so many more rows, scattered alike, the difference is as sure as the level asks."""
    models = draw(0.02, seed=12)
    days = np.linspace(0, 90, ROWS)
    case = build_case(*models, days=days, rule={"caution": 200, "half_life": "never"})
    reason = decide_promotion(case).reason
    weighed = weigh_rows(case)
    gain = expected_gain.measure_gain(weighed.differences, weighed.weights, case.groups, 3)
    wait = estimate_wait(case, weighed, gain, choose_level(case))
    assert wait is not None and wait.chosen < wait.rows
    z = gain.mean / (gain.error * np.sqrt(ROWS / (ROWS + wait.rows)))
    assert expected_gain.upper_tail(z) == pytest.approx(choose_level(case), rel=0.01)
    assert wait.days == pytest.approx(wait.rows * 90 / ROWS)
    assert f"about {wait.rows:,} more labelled test rows would be enough, or {wait.chosen:,} chosen" in reason
    assert "at the rate of rows so far)" in reason
    assert "test rows would be enough" not in decide(*draw(-0.01, seed=2)).reason


def test_a_worse_model_is_rejected_and_an_unclear_one_held() -> None:
    assert decide(*draw(-0.2)).verdict == "rejected"
    assert decide(*draw(-0.01, seed=2)).verdict == "held"


def test_proof_spends_its_level_over_the_nights() -> None:
    models = draw(0.05)
    case = build_case(*models, rule={"rule": "proof"})
    decision = decide_promotion(case)
    (item,) = [item for item in decision.evidence if item["test"] == "proof"]
    assert item["threshold"] == pytest.approx(0.05 * 6 / np.pi**2)


@pytest.mark.parametrize(
    ("challenger", "champion"),
    [(np.full(ROWS, -0.1), np.full(ROWS, -0.4)), (np.full(ROWS, -0.4), np.full(ROWS, -0.4))],
    ids=["all rows better by the same", "no difference"],
)
def test_ties_everywhere_hold(challenger, champion) -> None:
    assert decide(challenger, champion, right=(np.ones(ROWS, bool), np.arange(ROWS) > 0)).verdict == "held"


def test_nan_scores_hold() -> None:
    challenger, champion = draw(0.2)
    challenger[3] = np.nan
    assert decide(challenger, champion).verdict == "held"


def test_a_single_group_cannot_promote() -> None:
    """Forty rows of one customer are one voice."""
    challenger, champion = draw(0.0, spread=0.02)
    challenger[:40] += 2.0
    groups = np.where(np.arange(ROWS) < 40, 0, np.arange(ROWS))
    decision = decide(challenger, champion, groups=groups)
    assert decision.verdict == "held"
    assert "comes from a single group of rows" in decision.reason
    assert decide(challenger, champion).verdict == "promoted"


def test_a_lost_rare_class_holds_where_the_metric_is_a_macro_average() -> None:
    """Common classes a little better, a class of twenty rows lost: the mean of all rows rises."""
    rng = np.random.default_rng(5)
    classes = np.array([3] * 20 + list(rng.integers(0, 3, 980)))
    champion = rng.normal(-0.5, 0.1, 1000)
    challenger = champion + rng.normal(0.1, 0.1, 1000)
    challenger[classes == 3] -= 2.5
    assert decide(challenger, champion, classes=classes).verdict == "promoted"
    assert decide(challenger, champion, classes=classes, metric="f1_macro").verdict != "promoted"


def test_a_label_that_is_new_to_the_champion_counts_once_it_has_enough_groups() -> None:
    challenger, champion = draw(0.0, seed=7, spread=0.05)
    new = np.arange(ROWS) < 40
    classes = np.where(new, 9, np.arange(ROWS) % 4)
    champion[new], challenger[new] = -4.0, -0.05
    assert decide(challenger, champion, classes=classes, new=new).verdict == "promoted"
    few = np.arange(ROWS) < 20
    weights = weigh_rows(build_case(challenger, champion, classes=np.where(few, 9, 0), new=few)).weights
    assert (weights[few] == 0).all() and (weights[~few] > 0).all()


def test_a_label_typed_in_two_ways_does_not_force_a_promotion() -> None:
    """`Refund ` beside `Refund`: the challenger splits the probability of texts that nobody can tell apart."""
    challenger, champion = draw(0.0, seed=8, rows=400, spread=0.02)
    old, new = np.arange(400) < 90, (np.arange(400) >= 90) & (np.arange(400) < 140)
    champion[old], challenger[old] = np.log(0.95), np.log(0.64)
    champion[new], challenger[new] = np.log(0.0025), np.log(0.36)
    classes = np.where(old, 1, np.where(new, 2, 0))
    assert decide(challenger, champion, classes=classes, new=new).verdict != "promoted"


def test_a_significant_loss_of_the_metric_on_history_rejects() -> None:
    right = (np.arange(ROWS) % 5 > 1, np.arange(ROWS) % 5 > 0)
    decision = decide(*draw(0.1), right=right)
    assert decision.verdict == "rejected"
    assert "20.0 points (accuracy) on" in decision.reason


def test_too_few_rows_hold() -> None:
    decision = decide(*draw(0.5, rows=20))
    assert (decision.verdict, decision.reason.split(";")[0]) == ("held", "Only 20 test rows")


def test_each_further_look_at_the_same_rows_has_half_the_level() -> None:
    thresholds = [
        next(item["threshold"] for item in decide(*draw(0.05), look=look).evidence if item["test"] == "expected")
        for look in (1, 2, 10)
    ]
    assert thresholds[1] == thresholds[0] / 2 and thresholds[2] == thresholds[0] / 512


def test_without_scores_the_metric_is_weighed() -> None:
    case = build_case(*draw(0.0), right=(np.arange(ROWS) % 5 > 0, np.arange(ROWS) % 4 > 0))
    decision = decide_promotion(Case(**{**vars(case), "scores": None}))
    (item,) = [item for item in decision.evidence if item["test"] == "expected"]
    assert (decision.verdict, item["metric"]) == ("promoted", "accuracy")
    assert item["estimate"] == pytest.approx(0.05, abs=1e-3)


def test_ages_in_a_unit_that_the_rows_do_not_have_hold_and_say_so() -> None:
    days = np.where(np.arange(ROWS) < 5, np.nan, 1.0)
    decision = decide(*draw(0.3), days=days, rule={"half_life": "30 days"})
    assert decision.verdict == "held"
    assert "half_life is 30 days, but 5 of 300 test rows have no timestamp" in decision.reason
    assert decide(*draw(0.3), days=days, rule={"half_life": "3 ingests"}).verdict == "promoted"


def test_old_rows_count_less() -> None:
    """The challenger is better on old rows and worse on new ones."""
    challenger, champion = draw(0.0, seed=9, spread=0.1)
    days = np.where(np.arange(ROWS) < 200, 400.0, 0.0)
    challenger += np.where(days > 0, 0.1, -0.1)
    assert decide(challenger, champion, days=days, rule={"half_life": "never"}).verdict == "promoted"
    assert decide(challenger, champion, days=days, rule={"half_life": "30 days"}).verdict != "promoted"


def test_scores_of_other_rows_are_an_error() -> None:
    case = build_case(*draw(0.1))
    other = build_case(*draw(0.1, rows=10)).scores
    with pytest.raises(DataError, match="scores of 10 rows, but 300 test rows"):
        decide_promotion(Case(**{**vars(case), "scores": other}))


def test_ten_seeds_on_the_same_rows_are_ten_looks(tmp_path) -> None:
    rows = np.array([f"r{index}" for index in range(30)])
    np.savez(tmp_path / "evidence.npz", row_version=rows, mask_test_clean=np.arange(30) > 2)
    report = Evaluation({}, 4, {}, str(tmp_path / "evidence.npz"), "", 0, 0.0)
    fingerprint = challenge.fingerprint_rows(report)
    entries = [
        {
            "event": "decision",
            "version": version,
            "champion": 4,
            "evidence": [{"test": "expected", "fingerprint": mark}],
        }
        for version, mark in ((5, fingerprint), (6, "other rows"), (7, fingerprint), (7, fingerprint))
    ]
    assert json.dumps(entries)
    assert [challenge.count_looks(entries, report, version) for version in (5, 7, 8)] == [1, 2, 3]
    assert challenge.count_looks(entries, Evaluation({}, 9, {}, report.evidence, "", 0, 0.0), 8) == 1
