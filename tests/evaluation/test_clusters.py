"""Rows that are right or wrong together count as what they are worth, in every test of the gate and in its words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evertune.config import Gate
from evertune.gate.decide import Case, Scored, decide_promotion
from evertune.statistics.clusters import count_effective_rows, sum_by_group
from evertune.statistics.resampling import paired_difference
from tests.helpers.gate import accuracy, stats


def share(sums):
    return accuracy(sums)["accuracy"]


def ask(challenger, champion, groups, fresh=None, slices=None, **rule):
    fresh = np.ones(len(challenger), bool) if fresh is None else fresh
    rule.setdefault("noninferior_on", {})
    scored = Scored(challenger, champion, fresh, slices or {}, groups=groups)
    return decide_promotion(Case(scored, accuracy, "accuracy", Gate(**rule), (), 1, 500, 3))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1))
def test_sums_are_those_of_each_group(rows):
    groups, values = np.array(rows).T
    expected = [values[groups == number].sum() for number in np.unique(groups)]
    found = sum_by_group(values[:, None].astype(np.float32), groups)
    assert sorted(found[:, 0]) == sorted(expected)
    assert 1 <= count_effective_rows(groups) <= len(np.unique(groups)) + 1e-9


def test_rows_are_worth_their_groups_and_less_where_these_are_uneven():
    assert count_effective_rows(np.arange(100)) == 100
    assert count_effective_rows(np.repeat(np.arange(20), 5)) == 20
    assert count_effective_rows(np.array([0] * 50 + list(range(1, 51)))) == pytest.approx(100**2 / (50**2 + 50))


def test_groups_of_one_row_change_nothing_whatever_their_numbers():
    rng = np.random.default_rng(1)
    sides = [stats(rng.random(400) < share) for share in (0.86, 0.8)]
    slices = {"half": np.arange(400) < 200}
    fresh = np.arange(400) >= 200
    rule = {"noninferior_on": {"history": 0.05}, "minimum": {"accuracy": 0.5}, "slice": {"drop": 0}}
    said = [ask(*sides, groups, fresh, slices, **rule) for groups in (None, rng.permutation(400) * 7)]
    assert said[0].evidence == said[1].evidence and said[0].reason == said[1].reason


def test_a_copied_test_row_proves_no_more_than_the_row():
    """Each row five times: the same p-values and bounds as of the rows themselves, up to the order of their draws."""
    rng = np.random.default_rng(2)
    ours = stats(rng.random(300) < 0.9)
    theirs = stats(rng.random(300) < 0.82)
    rule = {"resamples": 4000, "seed": 1, "alpha": 0.03, "harm_alpha": 0.05}
    once = paired_difference(ours, theirs, share, groups=np.arange(300), **rule)
    groups = np.repeat(np.arange(300), 5)
    copied = paired_difference(ours[groups], theirs[groups], share, groups=groups, **rule)
    assert (copied.rows, copied.groups, copied.effective) == (1500, 300, 300)
    for name in ("estimate", "low", "high", "spread"):
        assert getattr(copied, name) == pytest.approx(getattr(once, name), abs=1e-6)
    for name in ("p_better", "p_worse"):
        assert getattr(copied, name) == pytest.approx(getattr(once, name), rel=1e-6)


def test_the_reason_and_the_evidence_name_the_groups():
    groups = np.repeat(np.arange(60), 5)
    was = np.arange(60) >= 9
    now = was.copy()
    now[:3] = True
    said = ask(stats(now[groups]), stats(was[groups]), groups, minimum={"accuracy": 0.92})
    assert said.verdict == "held"
    assert "on 300 fresh rows in 60 groups, not significant (p = " in said.reason
    assert "With 300 fresh rows in 60 groups the gate can detect" in said.reason
    assert "accuracy 0.900 on 300 test rows in 60 groups (minimum: 0.92" in said.reason
    assert [(item["rows"], item["groups"]) for item in said.evidence] == [(300, 60), (300, 60)]


def test_a_few_groups_of_many_rows_are_too_few():
    groups = np.repeat(np.arange(29), 20)
    perfect = stats(np.ones(580))
    poor = stats(np.arange(580) % 2 == 0)
    said = ask(perfect, poor, groups, minimum={"accuracy": 0.5}, noninferior_on={"test": 0.02})
    assert said.verdict == "held"
    assert "580 fresh rows in 29 groups; at least 30 groups are needed" in said.reason
    assert "(minimum: 0.5), but at least 30 groups are needed" in said.reason
    assert ask(perfect, poor, None, minimum={"accuracy": 0.5}).verdict == "promoted"


def test_one_large_group_is_one_witness_in_minimum_history_and_slices():
    """A conversation of 60 rows turns from right to wrong: harm if each spoke for itself, but they are one."""
    groups = np.concatenate([np.zeros(60, int), np.arange(1, 441)])
    was = np.ones(500, bool)
    now = groups > 0
    was[60:160] = False
    slices = {"label=refund": np.arange(500) < 60}
    rule = {"slice": {"min_rows": 2}, "min_rows": 2}
    apart, together = (ask(stats(now), stats(was), one, slices=slices, **rule) for one in (None, groups))
    assert apart.verdict == "rejected" and "label=refund" in apart.reason
    assert together.verdict != "rejected" and not [item for item in together.evidence if item["test"] == "slice"]
    fresh = np.arange(500) >= 60
    rule = {"noninferior_on": {"history": 0.02}, "min_rows": 2}
    pair = np.where(fresh, groups, -(np.arange(500) % 2))
    apart, together = (ask(stats(now), stats(was), one, fresh, **rule) for one in (None, pair))
    assert apart.verdict == "rejected" and "history" in apart.reason
    assert together.verdict == "held" and "60 history rows in 2 groups" in together.reason
