"""Whether the result of a drift check starts a retraining: triggers, their cooldown, and the training budget.

Pure functions. The last start is in the ledger and the seconds of training are in MLflow, so that they survive a
restart or a change of machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from evertune.records import Monitoring, Trigger

if TYPE_CHECKING:
    from evertune.config import Triggers

WEEK = timedelta(days=7)  # of the budget: the last 168 hours, not a calendar week


@dataclass(frozen=True)
class TriggerState:
    """The facts that a decision depends on.

    Args:
        labelled: number of rows with labels that came since the champion was trained.
        entries: of the ledger, in order.
        trained: seconds of training in the last week.
        now: in UTC.
    """

    labelled: int
    entries: Sequence[Mapping[str, Any]]
    trained: float
    now: datetime


def decide_triggers(rules: "Triggers", monitoring: Monitoring, state: TriggerState) -> tuple[Trigger, ...]:
    """Return every trigger whose condition is met; at most one starts a retraining, the first that may.

    Args:
        rules: triggers of the recipe.
    """
    triggers: list[Trigger] = []
    for name, reason in _find_reasons(rules, monitoring, state.labelled):
        started_by = next((trigger.name for trigger in triggers if trigger.starts), None)
        hold_reason = f"{started_by} has started a retraining" if started_by else _explain_hold(rules, name, state)
        triggers.append(Trigger(name, reason, hold_reason is None, hold_reason))
    return tuple(triggers)


def _find_reasons(rules: "Triggers", monitoring: Monitoring, labelled: int) -> list[tuple[str, str]]:
    """Return the triggers whose conditions are met, each with the reason."""
    reasons = []
    if rules.drift and monitoring.drifted:
        reasons.append(("drift", monitoring.reason))
    if rules.new_labels is not None and labelled >= rules.new_labels:
        reasons.append(("new_labels", f"{labelled:,} labelled rows since the champion (minimum: {rules.new_labels:,})"))
    drop = next(
        (finding for finding in monitoring.findings if finding["test"] == "performance" and finding["found"]), None
    )
    if rules.performance_drop is not None and drop and drop["statistic"] >= rules.performance_drop:
        points = 100 * drop["statistic"]
        least = 100 * rules.performance_drop
        reason = f"{points:.1f} points fewer correct rows (p = {drop['adjusted']:.2g}, minimum: {least:g} points)"
        reasons.append(("performance_drop", reason))
    return reasons


def _explain_hold(rules: "Triggers", name: str, state: TriggerState) -> str | None:
    """Return why a trigger starts no retraining; None if it may."""
    cooldown = timedelta(hours=rules.cooldown_of(name))
    elapsed = time_since_start(state.entries, state.now)
    if elapsed is not None and elapsed < cooldown:
        hours_left = (cooldown - elapsed).total_seconds() / 3600
        return f"cooldown: {hours_left:.1f} of {rules.cooldown_of(name):g} hours left since the last start"
    if rules.budget is not None and state.trained >= 3600 * rules.budget:
        return (
            f"triggers.budget: {state.trained / 3600:.3g} hours of training in the last 7 days (maximum: "
            f"{rules.budget:g}); raise it, wait, or start a retraining with `evertune run RECIPE`"
        )
    return None


def time_since_start(entries: Sequence[Mapping[str, Any]], now: datetime) -> timedelta | None:
    """Return how long ago a trigger last started a retraining, at least; None if none did.

    Entries are in the order in which they were written. If a clock was ahead at the start and was corrected later, the
    cooldown would last for years; so the earliest time of the start and all later entries counts.

    Args:
        entries: of the ledger.
    """
    starts = [index for index, entry in enumerate(entries) if entry["event"] == "trigger" and entry["starts"]]
    if not starts:
        return None
    times = [datetime.fromisoformat(entry["time"]) for entry in entries[starts[-1] :]]
    return max(now - min(times), timedelta(0))
