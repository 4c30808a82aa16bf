"""Policies by name, and what is said of them after a replayed history."""

from dataclasses import replace
from pathlib import Path

import pytest

from evertune.backtesting import backtest, policies, verdict
from evertune.backtesting.verdict import Step
from evertune.config import Gate
from evertune.errors import ConfigError, DataError
from evertune.records import to_plain
from evertune.report.pages import backtest as pages


def test_policies_are_read_by_name_and_period() -> None:
    assert [(one.name, one.period, one.gated) for one in backtest.parse_policies("never, gated:4,gated:4")] == [
        ("never", 1, False),
        ("gated:4", 4, True),
    ]
    for given_, words in (("gatd", "did you mean gated"), ("gated:x", "such as gated:4"), (" ", "no policy is named")):
        with pytest.raises(ConfigError, match=words):
            backtest.parse_policies(given_)


def steps(policy: str, values: list[float | None], wrong: int = 0, seconds: float = 10) -> list[Step]:
    return [
        Step(
            policy,
            window,
            "2026-01-05",
            9,
            {} if value is None else {"accuracy": value},
            retrained=True,
            promoted=True,
            wrong=window < wrong,
            seconds=seconds,
        )
        for window, value in enumerate(values)
    ]


def lossy(policy: str, values: list[float | None], lost: list[float], seconds: float = 10) -> list[Step]:
    return [
        replace(step, lost=points, chance_wrong=float(points > 0))
        for step, points in zip(steps(policy, values, seconds=seconds), lost, strict=True)
    ]


def test_a_lost_point_counts_as_many_times_as_the_caution_says() -> None:
    """`always` is 0.01 better a window, and its promotions lost 0.02 in three windows."""
    history = [*lossy("always", [0.9, 0.85, 0.9], [0, 0.02, 0]), *steps("gated", [0.9, 0.82, 0.9])]
    careful = verdict.summarize_policies(history, "accuracy", falls=False, caution=6)
    assert verdict.recommend_policy(careful).policy == "gated"
    assert [one.utility for one in careful] == pytest.approx([0.88333 - 5 * 0.02 / 3, 0.87333], abs=1e-4)
    bold = verdict.summarize_policies(history, "accuracy", falls=False, caution=2)
    assert verdict.recommend_policy(bold).policy == "always"
    words = verdict.explain_choice(careful, "accuracy")
    assert words == (
        "gated: mean accuracy 0.8733 over 3 windows, 2 promotions that lost 0.00 points and 30 s of training; always "
        "is better by 1.00 points a window (95% interval 0.00 to 3.00), but its promotions lost 2.00 points"
    )


def test_a_gate_that_only_costs_is_not_recommended() -> None:
    found = verdict.summarize_policies(
        [*steps("always", [0.9, 0.9]), *steps("gated", [0.9, 0.7])], "accuracy", falls=False
    )
    assert verdict.recommend_policy(found).policy == "always"


def test_of_equal_policies_the_cheaper_is_recommended() -> None:
    found = verdict.summarize_policies(
        [*steps("always", [0.9, 0.9], seconds=20), *steps("never", [0.9, 0.9])], "accuracy", falls=False
    )
    assert verdict.recommend_policy(found).policy == "never"


def test_a_falling_metric_is_better_when_it_falls() -> None:
    found = verdict.summarize_policies([*steps("one", [0.1]), *steps("two", [0.2])], "accuracy", falls=True)
    assert [one.below for one in found] == pytest.approx([0, 0.1])


def test_a_metric_that_no_window_has_is_an_error_that_says_what_to_do() -> None:
    nothing = [*steps("never", [None, None]), *steps("always", [None, None])]
    with pytest.raises(DataError, match=r"spearman is undefined in every window .* longer windows with --every"):
        verdict.summarize_policies(nothing, "spearman", falls=False)


@pytest.mark.filterwarnings("error")
def test_a_policy_whose_models_have_no_metric_is_not_compared(tmp_path: Path) -> None:
    """A model that says the same of every row has no correlation with the truth."""
    history = [*steps("never", [None, None]), *steps("gated", [0.5, None]), *steps("always", [None, 0.6])]
    never, gated, always = found = verdict.summarize_policies(history, "accuracy", falls=False)
    assert (never.metric, never.below, never.low, never.windows) == (None, None, None, 0)
    assert (gated.metric, gated.below, always.metric, always.below) == (0.5, None, 0.6, 0)
    assert verdict.recommend_policy(found) is always
    assert verdict.explain_choice(found, "accuracy").startswith("always: mean accuracy 0.6000 over 1 window, ")
    result = backtest.Result("", "week", "accuracy", 0, (), tuple(history), tuple(found), "always", "always")
    assert "always" in pages.write_backtest_page(tmp_path, to_plain(result), "tickets").read_text()


def test_gates_are_rules_or_settings() -> None:
    gates = policies.parse_gates("expected, caution=12,half_life=30 days")
    assert [(gate.name, gate.gate) for gate in gates] == [
        ("expected", (("rule", "expected"),)),
        ("caution=12", (("caution", 12),)),
        ("half_life=30 days", (("half_life", "30 days"),)),
    ]
    for text, words in (("expectd", "did you mean expected"), ("cautious=3", "did you mean caution")):
        with pytest.raises(ConfigError, match=words):
            policies.parse_gates(text)


def test_a_gate_that_is_tried_drops_what_its_rule_ignores() -> None:
    thresholds = Gate(superior_on="test", noninferior_on={"test": 0.1}, min_rows=7)
    tried = policies.change_gate(thresholds, {"rule": "expected"}, "expected")
    assert (tried.rule_name, tried.min_rows, tried.superior_on) == ("expected", 7, "fresh")
    back = policies.change_gate(Gate(caution=3), {"rule": "thresholds", "superior_on": "test"}, "gated-test")
    assert (back.rule_name, back.superior_on) == ("thresholds", "test")
    assert policies.change_gate(thresholds, {"caution": 12}, "caution=12").rule_name == "expected"
    assert policies.change_gate(Gate(rule="proof"), {"half_life": "never"}, "").rule_name == "proof"
    with pytest.raises(ConfigError, match=r"caution=0: evaluation.gate.caution: .* greater than or equal to 1"):
        policies.change_gate(Gate(), {"caution": 0}, "caution=0")
