"""What the ledger knows of decisions: on a version, by a person, and which champion a run met."""

from dataclasses import dataclass
from typing import Any

from evertune.records import Verdict
from evertune.registry.decisions import ledger
from evertune.registry.versions import versions as models
from evertune.runtime.home import Home


@dataclass(frozen=True)
class Made:
    """A run whose model was decided on.

    Args:
        run_id: in MLflow; champion: version that it met, None where there was none.
    """

    run_id: str
    champion: int | None


def opponent(home: Home, name: str, run_id: str) -> int | None:
    """The champion that a run's model meets; where that model has the place already, the champion that it met then.

    Raises:
        RegistryError: MLflow does not answer.
    """
    now = models.champion(home, name)
    if now is None or models.version_of(home, name, run_id) != now:
        return now
    decided = on(home, now)
    return now if decided is None else decided["champion"]


def made_champion(home: Home, name: str) -> Made | None:
    """The run that made the champion of now, as the decision on it tells; None where no run of this home did.

    Raises:
        RegistryError: MLflow does not answer.
    """
    now = models.champion(home, name)
    decided = None if now is None else on(home, now)
    return None if decided is None else Made(decided["run_id"], decided["champion"])


def on(home: Home, version: int) -> dict[str, Any] | None:
    """The last decision on a version, as the ledger has it; None where there is none."""
    found = [one for one in ledger.entries(home) if one["event"] == "decision" and one["version"] == version]
    return found[-1] if found else None


def by_hand(home: Home, version: int) -> tuple[Verdict, str] | None:
    """What is told of a version that a person made champion."""
    for one in reversed(ledger.entries(home)):
        if one["event"] == "approved" and one["version"] == version:
            return "promoted", f"approved by {one['who']}: {one['reason']}"
        if one["event"] == "moved" and one["to"] == version:
            return ("promoted", f"promoted by {one['who']}: {one['reason']}") if one.get("by_hand") else None
    return None


def turned_down(home: Home, version: int) -> dict[str, Any] | None:
    """A person's no to a version, where it is the last word on it."""
    said = [
        one for one in ledger.entries(home)
        if one["event"] in {"decision", "rejected-by-hand"} and one["version"] == version
    ]  # fmt: skip
    return said[-1] if said and said[-1]["event"] == "rejected-by-hand" else None
