"""The gate's verdicts: what promotes, what holds, what rejects, and how each says why."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.config import Gate
from evertune.errors import DataError
from evertune.gate.decide import Case, Scored, decide_promotion, used_error_budget
from tests.helpers.gate import accuracy, ask, both, error, stats


def test_a_clear_gain_is_promoted_with_its_evidence():
    challenger, champion = both(1000, 0.06, 0.02)
    history = np.arange(1000) >= 400
    said = ask(challenger, champion, history, noninferior_on={"history": 0.02}, minimum={"accuracy": 0.8})
    assert said.verdict == "promoted", said.reason
    assert {item["test"] for item in said.evidence} == {"minimum", "superior", "noninferior"}
    assert all(item["passed"] for item in said.evidence)
    found = next(item for item in said.evidence if item["test"] == "superior")
    assert found["rows"] == 600 and found["p"] <= found["threshold"] == pytest.approx(0.05 * 6 / np.pi**2)
    assert found["estimate"] == pytest.approx(found["challenger"] - found["champion"])
    assert found["low"] < found["estimate"] < found["high"]


def test_rows_with_labels_that_the_champion_does_not_know_are_not_compared():
    challenger, champion = both(1000, 0.06, 0.02)
    other_way = both(600, 0.0, 0.3)  # on the new labels the challenger is the worse one
    scored = Scored(
        np.concatenate([challenger, other_way[0]]),
        np.concatenate([champion, other_way[1]]),
        np.ones(1600, bool),
        {"new": np.arange(1600) >= 1000, "old": np.arange(1600) % 2 == 0},
        has_new_label=np.arange(1600) >= 1000,
    )
    said = decide_promotion(Case(scored, accuracy, "accuracy", Gate(noninferior_on={}), (), 1, 500, 3))
    assert said.verdict == "promoted", said.reason
    found = {item["test"]: item for item in said.evidence}
    assert (found["superior"]["rows"], found["new labels"]["rows"], found["new labels"]["passed"]) == (1000, 600, None)
    assert found["new labels"]["challenger"] == pytest.approx(float(other_way[0][:, 1].mean()))
    assert (
        decide_promotion(
            Case(replace(scored, has_new_label=None), accuracy, "accuracy", Gate(noninferior_on={}), (), 1, 500, 3)
        )
        != said
    )


def test_the_evidence_is_plain_json():
    challenger, champion = both(200, 0.06, 0.02)
    slices = {"half": np.arange(200) < 100}
    said = ask(challenger, champion, np.arange(200) > 20, slices, minimum={"accuracy": 0.1})
    assert json.loads(json.dumps(said.evidence, allow_nan=False)) == [dict(item) for item in said.evidence]


def test_a_falling_metric_is_better_when_it_falls():
    better, worse = both(1000, 0.08, 0.02)
    rule = Gate(noninferior_on={})
    fresh = np.ones(1000, bool)
    up = decide_promotion(Case(Scored(better, worse, fresh), error, "error", rule, ["error"], 1, 500, 3))
    down = decide_promotion(Case(Scored(worse, better, fresh), error, "error", rule, ["error"], 1, 500, 3))
    assert (up.verdict, down.verdict) == ("promoted", "rejected")
    found = up.evidence[0]
    assert found["estimate"] == pytest.approx(0.06)
    assert (found["challenger"], found["champion"]) == pytest.approx((0.09, 0.15))


def test_a_problem_holds_a_perfect_challenger_and_its_words_are_kept():
    for champion in (None, stats(np.zeros(100))):
        said = ask(stats(np.ones(100)), champion, problem="the champion's version 3 cannot be loaded")
        assert (said.verdict, said.reason) == ("held", "the champion's version 3 cannot be loaded")


def test_champion_against_itself_is_held():
    champion = both(500, 0.05, 0.02)[1]
    said = ask(champion.copy(), champion)
    assert said.verdict == "held" and "No difference" in said.reason and not used_error_budget(said.evidence)


def test_too_few_fresh_rows_are_held_and_spend_no_night():
    challenger, champion = both(300, 0.10, 0)
    said = ask(challenger, champion, np.arange(300) >= 271)
    assert (
        said.verdict == "held"
        and "Only 29 fresh rows; at least 30 rows are needed." in said.reason
        and not used_error_budget(said.evidence)
    )
    assert used_error_budget(ask(challenger, champion).evidence)


def test_a_small_gain_is_held_with_what_is_missing_in_numbers():
    challenger, champion = both(62, 3 / 62, 2 / 62)
    said = ask(challenger, champion)
    assert said.verdict == "held"
    assert "Better by 1.6 points on 62 fresh rows, not significant (p = " in said.reason
    assert "threshold 0.03). With 62 fresh rows the gate can detect gains of" in said.reason


def test_five_points_worse_is_rejected():
    assert ask(*both(600, 0.02, 0.07)).verdict == "rejected"


def test_one_destroyed_slice_rejects_a_model_that_is_better_in_total():
    was = np.arange(1000) % 10 != 0
    now = np.ones(1000, bool)
    now[:60] = np.arange(60) % 2 == 0
    slices = {"label=refund": np.arange(1000) < 60, "label=other": np.arange(1000) >= 60}
    said = ask(stats(now), stats(was), slices=slices)
    assert said.verdict == "rejected" and "label=refund" in said.reason and "label=other" not in said.reason
    assert ask(stats(now), stats(was)).verdict == "promoted"
    assert ask(stats(now), stats(was), slices=slices, slice={"min_rows": 61}).verdict == "promoted"
    assert ask(stats(now), stats(was), slices=slices, slice={"drop": 0.6}).verdict == "promoted"


def test_a_small_loss_in_one_of_many_slices_is_chance_after_correction():
    """5 of 50 rows broken has p = 1/32: harm if it is the only slice, chance among 20."""
    place = np.arange(1000) % 50
    part = np.arange(1000) // 50
    was = np.where(part == 0, True, place >= 10)
    now = np.where(part == 0, place >= 5, True)
    slices = {f"s{i}": part == i for i in range(20)}
    said = ask(stats(now), stats(was), slices=slices)
    assert said.verdict == "promoted" and "20 slices tested" in said.reason
    assert [item["on"] for item in said.evidence if item["test"] == "slice"] == ["s0"]
    assert ask(stats(now), stats(was), slices={"s0": part == 0}).verdict == "rejected"


def test_harm_outweighs_missing_evidence():
    later, before = both(1000, 0.0, 0.08)
    said = ask(later, before, np.arange(1000) >= 990, noninferior_on={"history": 0.02})
    assert said.verdict == "rejected" and "history" in said.reason and "needed" not in said.reason


def test_a_handful_of_fixes_is_held_where_only_the_exact_test_knows():
    """5 fixes, no break: McNemar's z gives p = 0.013, the exact test 1/32, the first night asks for 0.0304."""
    said = ask(stats(np.ones(60)), stats(np.arange(60) >= 5), seed=1)
    assert said.verdict == "held" and said.evidence[0]["p"] == pytest.approx(1 / 32, abs=0.015)
    assert ask(stats(np.ones(60)), stats(np.arange(60) >= 6)).verdict == "promoted"


def test_forgetting_is_rejected_and_doubt_about_it_is_held():
    fresh = np.arange(2000) >= 1000
    new, old = both(1000, 0.10, 0.01)
    for fixes, breaks, margin, verdict in (
        (0.0, 0.08, 0.02, "rejected"),
        (0.02, 0.03, 0.015, "held"),
        (0.02, 0.02, 0.02, "promoted"),
    ):
        later, before = both(1000, fixes, breaks)
        said = ask(
            np.concatenate([later, new]), np.concatenate([before, old]), fresh, noninferior_on={"history": margin}
        )
        assert said.verdict == verdict, said.reason


def test_untouched_history_of_few_rows_does_not_prove_a_small_margin():
    fresh = np.arange(640) >= 40
    new, old = both(600, 0.10, 0.01)
    same = stats(np.ones(40))
    said = ask(np.concatenate([same, new]), np.concatenate([same, old]), fresh, noninferior_on={"history": 0.02})
    assert said.verdict == "held" and "40 history rows" in said.reason


def test_later_nights_ask_for_more():
    challenger, champion = both(400, 0.055, 0.0225)
    verdicts = [ask(challenger, champion, night=night).verdict for night in (1, 2, 10, 40)]
    assert verdicts == ["promoted", "held", "held", "held"]
    sure = [ask(*both(1000, 0.08, 0.01), night=night).verdict for night in (1, 10, 40, 400)]
    assert sure == ["promoted"] * 4


def test_superior_on_test_takes_all_rows():
    challenger, champion = both(1000, 0.06, 0.02)
    said = ask(challenger, champion, np.zeros(1000, bool), superior_on="test")
    assert said.verdict == "promoted" and said.evidence[0]["on"] == "test"


def test_a_missing_or_undefined_metric_is_held():
    challenger, champion = both(1000, 0.08, 0.01)
    assert "f1 is missing" in ask(challenger, champion, metric="f1").reason
    rule = Gate(noninferior_on={}, minimum={"other": 0.1})
    for other in ({}, {"other": np.float64("nan")}):
        metrics = lambda sums, other=other: {**accuracy(sums), **other}  # noqa: E731
        said = decide_promotion(
            Case(Scored(challenger, champion, np.ones(1000, bool)), metrics, "accuracy", rule, (), 1, 500, 3)
        )
        assert said.verdict == "held" and "other" in said.reason


def test_no_rows_are_held():
    nothing = np.zeros((0, 2), np.float32)
    for champion in (None, nothing):
        said = ask(nothing, champion)
        assert said.verdict == "held" and "No clean test rows" in said.reason


def test_a_metric_that_is_undefined_on_some_resamples_is_held():
    """Entity F1 on windows with hardly an entity: resamples without one have no F1."""
    counted = np.arange(40) < 2
    ours = np.stack([counted, counted], axis=1).astype(np.float32)
    theirs = np.stack([counted, np.zeros(40)], axis=1).astype(np.float32)
    with np.errstate(invalid="ignore"):
        said = ask(ours, theirs)
    assert said.verdict == "held" and "undefined" in said.reason
    assert said.evidence[0]["p"] is None


def test_arrays_of_different_rows_are_refused():
    with pytest.raises(DataError, match="differ in shape"):
        ask(stats(np.ones(40)), stats(np.ones(41)))
    with pytest.raises(DataError, match="mask 'fresh' has shape"):
        ask(stats(np.ones(40)), None, np.ones(3, bool))


def test_leaked_rows_stand_in_the_evidence():
    scored = Scored(stats(np.ones(40)), None, np.ones(40, bool), leaked=7, majority=stats(np.zeros(40)))
    said = decide_promotion(Case(scored, accuracy, "accuracy", Gate(), (), 1, 500, 3))
    assert [item["rows"] for item in said.evidence if item["test"] == "leakage"] == [7]


rows_of_two = st.integers(30, 120).flatmap(
    lambda rows: st.tuples(
        st.lists(st.booleans(), min_size=rows, max_size=rows), st.lists(st.booleans(), min_size=rows, max_size=rows)
    )
)


@settings(deadline=None, max_examples=60)
@given(rows_of_two, st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_never_promoted_unless_better_and_never_both_ways(sides, seed, night):
    ours, theirs = (stats(side) for side in sides)
    one = ask(ours, theirs, seed=seed, night=night)
    other = ask(theirs, ours, seed=seed, night=night)
    assert one.verdict != "promoted" or ours[:, 1].mean() > theirs[:, 1].mean()
    assert {one.verdict, other.verdict} != {"promoted"}
    assert one == ask(ours, theirs, seed=seed, night=night)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(0, 1), st.sampled_from([np.nan, np.inf, -np.inf]), st.booleans())
def test_one_value_that_is_no_number_never_promotes(row, column, value, in_champion):
    challenger, champion = both(1000, 0.08, 0.01)
    (champion if in_champion else challenger)[row, column] = value
    said = ask(challenger, champion)
    assert said.verdict == "held" and ("champion's" if in_champion else "challenger's") in said.reason


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(60)))
def test_the_order_of_rows_does_not_touch_the_estimates(order):
    order = np.array(order)
    challenger, champion = both(60, 0.1, 0.05)
    fresh = np.arange(60) >= 30
    slices = {"a": np.arange(60) % 2 == 0}
    rule = {"noninferior_on": {"history": 0.02}, "slice": {"min_rows": 5, "drop": 0}}
    one = ask(challenger, champion, fresh, slices, **rule)
    mixed = {name: mask[order] for name, mask in slices.items()}
    other = ask(challenger[order], champion[order], fresh[order], mixed, **rule)
    for a, b in zip(one.evidence, other.evidence, strict=True):
        assert [a[key] for key in ("test", "rows", "estimate", "challenger")] == [
            b[key] for key in ("test", "rows", "estimate", "challenger")
        ]
