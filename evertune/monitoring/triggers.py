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
class Known:
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


def decide(rules: "Triggers", found: Monitoring, known: Known) -> tuple[Trigger, ...]:
    """Every trigger that has a reason, and whether it starts a retraining: the first that may does, one is enough."""
    told: list[Trigger] = []
    for name, reason in _reasons(rules, found, known.labelled):
        begun = next((one.name for one in told if one.starts), None)
        why_not = f"{begun} has started a retraining" if begun else _held(rules, name, known)
        told.append(Trigger(name, reason, why_not is None, why_not))
    return tuple(told)


def _reasons(rules: "Triggers", found: Monitoring, labelled: int) -> list[tuple[str, str]]:
    """The triggers that have been met, each with why."""
    told = []
    if rules.drift and found.drifted:
        told.append(("drift", found.reason))
    if rules.new_labels is not None and labelled >= rules.new_labels:
        told.append(("new_labels", f"{labelled:,} labelled rows since the champion, {rules.new_labels:,} are asked"))
    drop = next((one for one in found.findings if one["test"] == "performance" and one["found"]), None)
    if rules.performance_drop is not None and drop and drop["statistic"] >= rules.performance_drop:
        points, least = 100 * drop["statistic"], 100 * rules.performance_drop
        words = f"{points:.1f} points fewer rows right, p = {drop['adjusted']:.2g}; {least:g} points are asked"
        told.append(("performance_drop", words))
    return told


def _held(rules: "Triggers", name: str, known: Known) -> str | None:
    """Why a trigger that has been met starts nothing; None where it may."""
    cooldown, since = timedelta(hours=rules.cooldown_of(name)), since_start(known.entries, known.now)
    if since is not None and since < cooldown:
        rest = (cooldown - since).total_seconds() / 3600
        return f"cooldown: {rest:.1f} of {rules.cooldown_of(name):g} hours are left since the last start"
    if rules.budget is not None and known.trained >= 3600 * rules.budget:
        return (
            f"triggers.budget: {known.trained / 3600:.3g} hours were trained in the last 7 days, {rules.budget:g} are "
            "allowed; raise it, wait, or start one by hand with `evertune run RECIPE`"
        )
    return None


def since_start(entries: Sequence[Mapping[str, Any]], now: datetime) -> timedelta | None:
    """How long ago a trigger last started a retraining, at least; None where none did.

    Entries stand in the order in which they were written. A clock that was ahead at the start and set back later would
    hold a cooldown for years: so the earliest time of the start and of all entries behind it counts.
    """
    starts = [place for place, one in enumerate(entries) if one["event"] == "trigger" and one["starts"]]
    if not starts:
        return None
    times = [datetime.fromisoformat(one["time"]) for one in entries[starts[-1] :]]
    return max(now - min(times), timedelta(0))
