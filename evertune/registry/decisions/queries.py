"""Decisions in the ledger: on a version, by a person, and the champion that a run was compared with."""

from dataclasses import dataclass

from evertune.records import Verdict
from evertune.registry.decisions import ledger
from evertune.registry.versions import versions
from evertune.runtime.home import Home


@dataclass(frozen=True)
class DecidedRun:
    """A run with a decision on its model.

    Args:
        run_id: of MLflow.
        champion: version that the model was compared with; None without a champion.
    """

    run_id: str
    champion: int | None


def find_opponent(home: Home, name: str, run_id: str) -> int | None:
    """Return the champion to compare a run's model with; if that model is champion already, the one before it.

    Raises:
        RegistryError: MLflow does not answer.
    """
    champion = versions.find_champion(home, name)
    if champion is None or versions.find_run_version(home, name, run_id) != champion:
        return champion
    decision = find_last_decision(home, champion)
    return champion if decision is None else decision["champion"]


def find_champion_run(home: Home, name: str) -> DecidedRun | None:
    """Return the run that made today's champion; None if no run of this home did.

    Raises:
        RegistryError: MLflow does not answer.
    """
    champion = versions.find_champion(home, name)
    decision = None if champion is None else find_last_decision(home, champion)
    return None if decision is None else DecidedRun(decision["run_id"], decision["champion"])


def find_last_decision(home: Home, version: int) -> ledger.Entry | None:
    """Return the ledger's last decision on a version; None without one."""
    decisions = [
        entry for entry in ledger.read_entries(home) if entry["event"] == "decision" and entry["version"] == version
    ]
    return decisions[-1] if decisions else None


def find_manual_promotion(home: Home, version: int) -> tuple[Verdict, str] | None:
    """Return the verdict and the reason of a version that a person made champion; None if nobody did."""
    for entry in reversed(ledger.read_entries(home)):
        if entry["event"] == "approved" and entry["version"] == version:
            return "promoted", f"approved by {entry['who']}: {entry['reason']}"
        if entry["event"] == "moved" and entry["to"] == version:
            if not entry.get("by_hand"):
                return None
            return "promoted", f"promoted by {entry['who']}: {entry['reason']}"
    return None


def find_rejection(home: Home, version: int) -> ledger.Entry | None:
    """Return the entry of a person's rejection of a version, if no decision came after it; else None."""
    verdicts = [
        entry
        for entry in ledger.read_entries(home)
        if entry["event"] in {"decision", "rejected-by-hand"} and entry["version"] == version
    ]
    return verdicts[-1] if verdicts and verdicts[-1]["event"] == "rejected-by-hand" else None
