"""Whether what the monitor saw starts a retraining: the recipe's triggers, their cooldown, and the budget of training.

Pure: what is known comes in, what is decided goes out. The last start is in the ledger, the seconds of training are in
MLflow, so that neither a restart nor another machine forgets them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from evertune.records import Monitoring, Trigger

if TYPE_CHECKING:
    from evertune.config import Triggers

WEEK = timedelta(days=7)  # of the budget: the last 168 hours, not a calendar's


@dataclass(frozen=True)
class TriggerState:
    """What a decision goes by.

    Args:
        labelled: rows with labels that came since the champion was trained.
        entries: of the ledger, in order.
        trained: seconds of training in the last week.
    """

    labelled: int
    entries: Sequence[Mapping[str, Any]]
    trained: float
    now: datetime


def decide_triggers(rules: "Triggers", monitoring: Monitoring, state: TriggerState) -> tuple[Trigger, ...]:
    """Every trigger that has a reason, and whether it starts a retraining: the first that may does, one is enough."""
    triggers: list[Trigger] = []
    for name, reason in _find_reasons(rules, monitoring, state.labelled):
        started_by = next((trigger.name for trigger in triggers if trigger.starts), None)
        hold_reason = f"{started_by} has started a retraining" if started_by else _explain_hold(rules, name, state)
        triggers.append(Trigger(name, reason, hold_reason is None, hold_reason))
    return tuple(triggers)


def _find_reasons(rules: "Triggers", monitoring: Monitoring, labelled: int) -> list[tuple[str, str]]:
    """The triggers that have been met, each with why."""
    reasons = []
    if rules.drift and monitoring.drifted:
        reasons.append(("drift", monitoring.reason))
    if rules.new_labels is not None and labelled >= rules.new_labels:
        reasons.append(("new_labels", f"{labelled:,} labelled rows since the champion, {rules.new_labels:,} are asked"))
    drop = next(
        (finding for finding in monitoring.findings if finding["test"] == "performance" and finding["found"]), None
    )
    if rules.performance_drop is not None and drop and drop["statistic"] >= rules.performance_drop:
        points = 100 * drop["statistic"]
        least = 100 * rules.performance_drop
        words = f"{points:.1f} points fewer rows right, p = {drop['adjusted']:.2g}; {least:g} points are asked"
        reasons.append(("performance_drop", words))
    return reasons


def _explain_hold(rules: "Triggers", name: str, state: TriggerState) -> str | None:
    """Why a trigger that has been met starts nothing; None where it may."""
    cooldown = timedelta(hours=rules.cooldown_of(name))
    elapsed = time_since_start(state.entries, state.now)
    if elapsed is not None and elapsed < cooldown:
        rest = (cooldown - elapsed).total_seconds() / 3600
        return f"cooldown: {rest:.1f} of {rules.cooldown_of(name):g} hours are left since the last start"
    if rules.budget is not None and state.trained >= 3600 * rules.budget:
        return (
            f"triggers.budget: {state.trained / 3600:.3g} hours were trained in the last 7 days, {rules.budget:g} are "
            "allowed; raise it, wait, or start one by hand with `evertune run RECIPE`"
        )
    return None


def time_since_start(entries: Sequence[Mapping[str, Any]], now: datetime) -> timedelta | None:
    """How long ago a trigger last started a retraining, at least; None where none did.

    Entries stand in the order in which they were written. A clock that was ahead at the start and set back later would
    hold a cooldown for years: so the earliest time of the start and of all entries behind it counts.
    """
    starts = [index for index, entry in enumerate(entries) if entry["event"] == "trigger" and entry["starts"]]
    if not starts:
        return None
    times = [datetime.fromisoformat(entry["time"]) for entry in entries[starts[-1] :]]
    return max(now - min(times), timedelta(0))
