"""When what the monitor saw starts a retraining: triggers, cooldown, budget; restarts and clocks that jump."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evertune.config import Triggers
from evertune.monitoring import triggers
from evertune.monitoring.triggers import TriggerState, decide_triggers, time_since_start
from evertune.records import Monitoring, Trigger
from evertune.registry.tracking import queries, unfinished
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking.store import open_client
from evertune.runtime.context import RunContext
from tests.helpers.registry import Shop

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def found(drifted: bool = True, drop: float | None = None) -> Monitoring:
    performance = {"test": "performance", "statistic": drop, "adjusted": 0.004, "found": True}
    return Monitoring("m", 3, drifted, "p = 0.001: length", 0.001, 0.05, {}, "here", (performance,) if drop else ())


def entry(hours_ago: float, starts: bool | None = True) -> dict[str, Any]:
    time = (NOW - hours_ago * HOUR).isoformat(timespec="seconds")
    return (
        {"time": time, "event": "decision"} if starts is None else {"time": time, "event": "trigger", "starts": starts}
    )


def known(*entries: dict[str, Any], labelled: int = 0, trained: float = 0.0) -> TriggerState:
    return TriggerState(labelled, entries, trained, NOW)


def said(rules: Triggers, seen: Monitoring, what: TriggerState) -> list[tuple[str, bool]]:
    return [(one.name, one.starts) for one in decide_triggers(rules, seen, what)]


def test_each_trigger_asks_for_what_its_recipe_says() -> None:
    rules = Triggers(new_labels=500, performance_drop=0.03)
    assert decide_triggers(rules, found(False), known(labelled=499)) == ()
    assert said(rules, found(False), known(labelled=500)) == [("new_labels", True)]
    assert said(rules, found(False, drop=0.029), known()) == []
    [one] = decide_triggers(rules, found(False, drop=0.04), known())
    assert (one.name, one.reason) == (
        "performance_drop",
        "4.0 points fewer correct rows (p = 0.004, minimum: 3 points)",
    )
    assert said(Triggers(drift=False), found(), known()) == []
    assert said(Triggers(), found(), known(labelled=9000)) == [("drift", True)]


def test_one_start_is_enough_for_all_that_have_a_reason() -> None:
    told = decide_triggers(Triggers(new_labels=5), found(), known(labelled=9))
    assert [(one.name, one.starts, one.held) for one in told] == [
        ("drift", True, None),
        ("new_labels", False, "drift has started a retraining"),
    ]


def test_a_cooldown_is_that_of_the_trigger() -> None:
    rules = Triggers(new_labels=1, cooldowns={"drift": 48, "new_labels": 2})
    told = decide_triggers(rules, found(), known(entry(5), entry(4, None), labelled=9))
    assert [(one.name, one.starts) for one in told] == [("drift", False), ("new_labels", True)]
    assert told[0].held == "cooldown: 43.0 of 48 hours left since the last start"
    assert said(rules, found(), known(entry(49), labelled=0)) == [("drift", True)]
    assert said(Triggers(cooldown=0), found(), known(entry(0))) == [("drift", True)]
    with pytest.raises(ValidationError):
        Triggers(cooldowns={"drfit": 48})  # type: ignore[dict-item]


def test_a_spent_budget_starts_nothing_and_says_what_to_do() -> None:
    rules = Triggers(budget=2)
    assert said(rules, found(), known(trained=7199)) == [("drift", True)]
    [one] = decide_triggers(rules, found(), known(trained=7200))
    assert one == Trigger("drift", "p = 0.001: length", False, one.held)
    assert str(one.held).startswith("triggers.budget: 2 hours of training in the last 7 days (maximum: 2); raise it")


def test_a_clock_that_was_ahead_at_the_start_holds_no_trigger_for_years() -> None:
    ahead = entry(-9000)
    assert time_since_start([ahead], NOW) == timedelta(0)  # nothing has been written since: held, and that is written
    assert time_since_start([ahead, entry(30, False), entry(1, False)], NOW) == 30 * HOUR
    assert time_since_start([entry(90, None)], NOW) is None
    assert time_since_start([entry(90), entry(3), entry(2, False)], NOW) == 3 * HOUR


@given(st.floats(0, 200), st.lists(st.tuples(st.floats(0, 300), st.floats(0, 4)), max_size=30), st.floats(0.1, 20))
def test_no_history_of_checks_starts_more_often_than_the_cooldown_or_beyond_the_budget(
    cooldown: float, checks: list[tuple[float, float]], budget: float
) -> None:
    """Checks at any moments, each of which finds drift; a training takes as long as drawn."""
    rules = Triggers(cooldown=cooldown, budget=budget)
    entries = list[dict[str, Any]]()
    runs = list[Any]()
    for hours, lasts in sorted(checks):
        now = NOW + hours * HOUR
        spent = sum(one for begun, one in runs if begun >= now - triggers.WEEK)
        [one] = decide_triggers(rules, found(), TriggerState(0, tuple(entries), 3600 * spent, now))
        if one.starts:
            assert not runs or now - runs[-1][0] >= timedelta(hours=cooldown)
            assert spent < budget
            runs.append((now, lasts))
        else:
            assert one.held
        entries.append({"time": now.isoformat(), "event": "trigger", "starts": one.starts})


@given(st.lists(st.tuples(st.floats(-1000, 1000), st.booleans()), max_size=20), st.floats(0, 100))
def test_after_the_clock_is_right_a_cooldown_ends(jumps: list[tuple[float, bool]], cooldown: float) -> None:
    """Whatever the clock said before: a cooldown after the first entry of the right time, a trigger starts again."""
    entries = [entry(-hours, starts) for hours, starts in jumps] + [entry(0, False)]
    later = NOW + timedelta(hours=cooldown)
    [one] = decide_triggers(Triggers(cooldown=cooldown), found(), TriggerState(0, entries, 0.0, later))
    assert one.starts


def test_the_hours_of_training_are_those_that_mlflow_has(shop: Shop) -> None:
    """Those of the last week, a failed one with all its time, none of a look for drift."""
    started = datetime.now(UTC) - HOUR
    made = [shop.candidate() for _ in range(3)]
    mlflow = open_client(shop.home)
    for one in made[:2]:
        run = tracking.Run(shop.home, one.run_id, Path(one.run_folder))
        run.log_metrics({queries.TRAINING_SECONDS: 1800.0}, 1)
        run.finish_run()
    mlflow.set_terminated(made[2].run_id, "FAILED", end_time=mlflow.get_run(made[2].run_id).info.start_time + 5000)
    tags = unfinished.mark_started(shop.home, "monitor", shop.home.monitors / "one")
    looked = mlflow.create_run(mlflow.get_run(made[0].run_id).info.experiment_id, tags=tags)
    mlflow.set_terminated(looked.info.run_id, end_time=looked.info.start_time + 10_000_000)
    assert queries.sum_training_seconds(RunContext(shop.recipe, shop.home), started) == 3605
    assert queries.sum_training_seconds(RunContext(shop.recipe, shop.home), datetime.now(UTC) + HOUR) == 0
