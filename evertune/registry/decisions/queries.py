"""What the ledger knows of decisions: on a version, by a person, and which champion a run met."""

from dataclasses import dataclass
from typing import Any

from evertune.records import Verdict
from evertune.registry.decisions import ledger
from evertune.registry.versions import versions
from evertune.runtime.home import Home


@dataclass(frozen=True)
class DecidedRun:
    """A run whose model was decided on.

    Args:
        run_id: in MLflow; champion: version that it met, None where there was none.
    """

    run_id: str
    champion: int | None


def find_opponent(home: Home, name: str, run_id: str) -> int | None:
    """The champion that a run's model meets; where that model has the place already, the champion that it met then.

    Raises:
        RegistryError: MLflow does not answer.
    """
    champion = versions.find_champion(home, name)
    if champion is None or versions.find_run_version(home, name, run_id) != champion:
        return champion
    decision = find_last_decision(home, champion)
    return champion if decision is None else decision["champion"]


def find_champion_run(home: Home, name: str) -> DecidedRun | None:
    """The run that made the champion of now, as the decision on it tells; None where no run of this home did.

    Raises:
        RegistryError: MLflow does not answer.
    """
    champion = versions.find_champion(home, name)
    decision = None if champion is None else find_last_decision(home, champion)
    return None if decision is None else DecidedRun(decision["run_id"], decision["champion"])


def find_last_decision(home: Home, version: int) -> dict[str, Any] | None:
    """The last decision on a version, as the ledger has it; None where there is none."""
    decisions = [
        entry for entry in ledger.read_entries(home) if entry["event"] == "decision" and entry["version"] == version
    ]
    return decisions[-1] if decisions else None


def find_manual_promotion(home: Home, version: int) -> tuple[Verdict, str] | None:
    """What is told of a version that a person made champion."""
    for entry in reversed(ledger.read_entries(home)):
        if entry["event"] == "approved" and entry["version"] == version:
            return "promoted", f"approved by {entry['who']}: {entry['reason']}"
        if entry["event"] == "moved" and entry["to"] == version:
            return ("promoted", f"promoted by {entry['who']}: {entry['reason']}") if entry.get("by_hand") else None
    return None


def find_rejection(home: Home, version: int) -> dict[str, Any] | None:
    """A person's no to a version, where it is the last word on it."""
    verdicts = [
        entry
        for entry in ledger.read_entries(home)
        if entry["event"] in {"decision", "rejected-by-hand"} and entry["version"] == version
    ]
    return verdicts[-1] if verdicts and verdicts[-1]["event"] == "rejected-by-hand" else None
