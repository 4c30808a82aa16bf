"""The gate's minimums and first versions: what a model must reach by itself."""

import numpy as np
import pytest

from evertune.config import Gate
from evertune.gate.decide import Case, Scored, decide_promotion
from tests.helpers.gate import ask, both, error, stats


def test_a_first_version_must_beat_the_commonest_label_whatever_the_minimum():
    said = ask(stats(np.arange(40) < 20), None)
    assert said.verdict == "promoted"
    assert said.reason == "First version: accuracy 0.500 on 40 test rows (majority baseline: 0.250)."
    for rule in ({}, {"minimum": {"accuracy": 0.1}}):
        said = ask(stats(np.arange(40) < 10), None, **rule)
        assert (
            said.verdict == "held"
            and "No better than the majority baseline: accuracy 0.250 on 40 test rows" in said.reason
        )
    assert said.evidence[-1]["threshold"] == 0.25 and said.evidence[-1]["passed"] is False


def test_a_first_version_needs_rows():
    said = ask(stats(np.ones(29)), None)
    assert said.verdict == "held"
    assert "only 29 test rows; at least 30 rows are needed. Add rows, or lower evaluation.gate.min_rows." in said.reason
    assert ask(stats(np.ones(29)), None, min_rows=29).verdict == "promoted"


@pytest.mark.parametrize(
    ("right", "rows", "verdict"), [(90, 100, "promoted"), (77, 100, "held"), (40, 100, "rejected")]
)
def test_without_a_champion_the_minimum_decides(right, rows, verdict):
    said = ask(stats(np.arange(rows) < right), None, minimum={"accuracy": 0.8})
    assert said.verdict == verdict, said.reason
    assert "0.8" in said.reason


def test_a_minimum_needs_rows():
    for right in (np.ones(29), np.zeros(29)):
        said = ask(stats(right), None, minimum={"accuracy": 0.8})
        assert said.verdict == "held" and "at least 30 rows are needed" in said.reason


def test_a_minimum_on_a_falling_metric_is_a_maximum():
    for right, verdict in ((90, "promoted"), (40, "rejected")):
        rows = stats(np.arange(100) < right)
        scored = Scored(rows, None, np.ones(100, bool), majority=stats(np.arange(100) < 20))
        said = decide_promotion(Case(scored, error, "error", Gate(minimum={"error": 0.2}), ["error"], 1, 500, 3))
        assert said.verdict == verdict, said.reason


def test_below_the_minimum_a_better_model_is_not_promoted():
    challenger, champion = both(1000, 0.08, 0.02, right=0.7)
    assert ask(challenger, champion, minimum={"accuracy": 0.77}).verdict == "held"
    assert ask(challenger, champion, minimum={"accuracy": 0.9}).verdict == "rejected"
