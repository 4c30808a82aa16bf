"""Policies by name, and what is said of them after a replayed history."""

from pathlib import Path

import pytest

from evertune.backtesting import backtest, verdict
from evertune.backtesting.verdict import Step
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


def test_of_equally_good_policies_the_one_with_fewer_wrong_promotions_is_recommended() -> None:
    history = [*steps("always", [0.9, 0.8, None, 0.9], 3), *steps("gated", [0.9, 0.79, None, 0.9], 1, seconds=20)]
    found = verdict.summarize_policies(history, "accuracy", falls=False)
    assert verdict.recommend_policy(found).policy == "gated"
    assert [(one.windows, one.wrong, one.seconds) for one in found] == [(3, 3, 40), (3, 1, 80)]
    words = verdict.explain_choice(found, "accuracy")
    assert words.startswith(
        "gated: mean accuracy 0.8633 over 3 windows, 1 wrong promotion and 80 s of training; always"
    )
    assert "always is better by 0.33 points (95% interval 0.00 to 1.00), with 3 wrong promotions" in words


def test_a_gate_that_costs_too_much_is_said_to() -> None:
    found = verdict.summarize_policies(
        [*steps("always", [0.9, 0.9]), *steps("gated", [0.9, 0.7])], "accuracy", falls=False
    )
    assert verdict.recommend_policy(found).policy == "always"
    assert "gated would lose 10.00 points here: its gate requires more evidence" in verdict.explain_choice(
        found, "accuracy"
    )


def test_a_gate_that_let_a_worse_model_pass_is_not_said_to_ask_for_too_much() -> None:
    history = [*steps("never", [0.9, 0.9]), *steps("gated", [0.9, 0.7], 1)]
    found = verdict.summarize_policies(history, "accuracy", falls=False)
    assert verdict.explain_choice(found, "accuracy").endswith("gated would lose 10.00 points here: 1 wrong promotion")


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
    assert verdict.explain_choice(found, "accuracy").startswith("always: mean accuracy 0.6000 over 1 window, 0 wrong")
    result = backtest.Result("", "week", "accuracy", 0, (), tuple(history), tuple(found), "always", "always")
    assert "always" in pages.write_backtest_page(tmp_path, to_plain(result), "tickets").read_text()
