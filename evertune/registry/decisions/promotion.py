"""Carry out decisions: tags, aliases and the ledger; and the decisions that a person makes."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Unpack, cast

from evertune.errors import RegistryError
from evertune.records import Candidate, Decision, Evaluation, to_plain
from evertune.registry.decisions import ledger, queries
from evertune.registry.tracking.store import open_client, translate_errors
from evertune.registry.versions import parity, versions
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.serving import bundle

if TYPE_CHECKING:
    from evertune.runtime.context import RunContext

logger = logging.getLogger(__name__)
WAITING = "awaiting approval"
EXPIRED: Final = "expired"
COMPARE_AGAIN = (
    "compare it again with `evertune run RECIPE --force`, or make it champion by hand with `evertune promote`"
)


def apply_decision(
    context: "RunContext", candidate: Candidate, evaluation: Evaluation, decision: Decision, version: int
) -> Decision:
    """Carry out a decision and return it: challenger alias, parity check, champion alias; each step in the ledger.

    A decision that was carried out before a crash is returned as it was, and a person's rejection stays one.

    Args:
        decision: of the gate; the returned one may be held, by the parity check or for a person's approval.
        version: registered version of the candidate.
    Raises:
        RegistryError: MLflow refused, or the champion was moved meanwhile.
    """
    name = context.recipe.registered_name
    versions.repair_ledger(context.home, name)
    entry = queries.find_last_decision(context.home, version)
    if entry is not None and versions.find_champion(context.home, name) == version:
        verdict, reason = queries.find_manual_promotion(context.home, version) or (entry["verdict"], entry["reason"])
        return Decision(verdict, reason, tuple(entry["evidence"]))
    rejection = queries.find_rejection(context.home, version)
    if rejection is not None:
        return Decision("rejected", f"rejected by {rejection['who']}: {rejection['reason']}", decision.evidence)
    expire_waiting(context.home, name, context.recipe.registry.waiting_time)
    versions.set_challenger(context.home, name, version)
    if decision.verdict == "promoted":
        decision = _apply_parity_check(context.home, name, version, candidate, decision)
    needs_approval = decision.verdict == "promoted" and context.recipe.registry.promote == "ask"
    if needs_approval:
        decision = replace(
            decision,
            waiting=True,
            verdict="held",
            reason=f"{decision.reason} {WAITING.capitalize()}: evertune approve RECIPE --version {version}",
        )
    facts: ledger.Facts = {
        "verdict": decision.verdict,
        "version": version,
        "champion": evaluation.champion_version,
        "reason": decision.reason,
        "run_id": candidate.run_id,
        "evidence": decision.evidence,
    }
    _record_decision(context.home, facts)
    versions.set_tags(
        context.home,
        name,
        version,
        decision=WAITING if needs_approval else decision.verdict,
        reason=decision.reason[:4000],
    )
    if decision.verdict == "promoted":
        versions.move_champion(
            context.home,
            name,
            version,
            expected=evaluation.champion_version,
            reason=decision.reason,
            run_id=candidate.run_id,
        )
    return decision


def _record_decision(home: Home, facts: ledger.Facts) -> None:
    """Record a decision in the ledger, once: a run that continues after a crash decides the same again."""
    last: Mapping[str, object] | None = queries.find_last_decision(home, facts["version"])
    new: dict[str, object] = to_plain(facts)
    if last is None or any(last[key] != value for key, value in new.items()):
        ledger.append_event(home, "decision", **facts)


def _apply_parity_check(home: Home, name: str, version: int, candidate: Candidate, decision: Decision) -> Decision:
    sample = Path(candidate.run_folder) / "parity.json"
    result = parity.check_parity(home, name, version, sample, bundle.read_card(Path(candidate.bundle))["precision"])
    if result["passed"]:
        versions.set_tags(home, name, version, parity=candidate.digest)
        return replace(decision, evidence=(*decision.evidence, result))
    reason = f"the registered model does not predict as the tested one did: {parity.describe_failure(result)}"
    return Decision("held", reason, (*decision.evidence, result))


def approve_version(home: Home, name: str, version: int, reason: str, max_wait: timedelta | None = None) -> None:
    """Make a version champion that waits for approval.

    A version that expired by a wrong clock, or by a shorter `registry.expires`, can be approved all the same.

    Args:
        name: of the registered model.
        reason: recorded in the ledger.
        max_wait: how long a version may wait; None for no limit.
    Raises:
        RegistryError: the version does not wait or has waited too long, its files have changed, or the champion has
            changed since it was compared.
    """
    entry, state = _require_waiting(home, name, version, max_wait)
    current = versions.find_champion(home, name)
    if current != version:
        if current != entry["champion"]:
            opponent = f"version {entry['champion']}" if entry["champion"] else "no champion"
            raise RegistryError(
                f"version {version} of {name} was compared with {opponent}, but the champion is now version {current}, "
                f"so the evidence is out of date; {COMPARE_AGAIN}"
            )
        versions.fetch_bundle(home, name, version)
        if _read_tag(home, name, version, "parity") != _read_tag(home, name, version, "bundle"):
            raise RegistryError(f"version {version} of {name} never passed the parity check; run the recipe again")
        recheck = partial(_require_state, home, name, version, state)  # a person may reject it meanwhile
        versions.move_champion(home, name, version, expected=entry["champion"], recheck=recheck, reason=reason)
    ledger.append_event(home, "approved", version=version, reason=reason)
    versions.set_tags(home, name, version, decision="promoted", reason=reason)


def _require_waiting(home: Home, name: str, version: int, max_wait: timedelta | None) -> tuple[ledger.Entry, str]:
    """Return the decision on a version that waits for approval, and its tag."""
    expire_waiting(home, name, max_wait)
    entry = queries.find_last_decision(home, version)
    state = _read_tag(home, name, version, "decision")
    if state == EXPIRED and (entry is None or _is_overdue(entry, max_wait)):
        raise RegistryError(f"version {version} of {name} {_read_tag(home, name, version, 'reason')}; {COMPARE_AGAIN}")
    if state not in {WAITING, EXPIRED} or entry is None:
        waiting = ", ".join(map(str, list_waiting(home, name)))
        advice = f"versions that wait: {waiting}" if waiting else "no version waits"
        raise RegistryError(
            f"version {version} of {name} does not wait for approval, {_describe_state(state)}; {advice}"
        )
    return entry, str(state)


def _describe_state(state: str | None) -> str:
    """Return what became of a version that does not wait."""
    return f"it is {state}" if state else "no decision on it is recorded"


def _require_state(home: Home, name: str, version: int, state: str) -> None:
    current = _read_tag(home, name, version, "decision")
    if current != state:
        raise RegistryError(f"version {version} of {name} no longer waits for approval, {_describe_state(current)}")


def list_waiting(home: Home, name: str) -> list[int]:
    """Return the versions that wait for approval.

    Raises:
        RegistryError: MLflow does not answer.
    """
    return [int(model_version.version) for model_version in versions.list_versions(home, name, WAITING)]


def expire_waiting(home: Home, name: str, max_wait: timedelta | None) -> None:
    """Let versions expire that have waited too long, and record that in the ledger.

    Args:
        max_wait: how long a version may wait; None for no limit.
    Raises:
        RegistryError: MLflow does not answer.
    """
    if not max_wait:
        return
    for version in list_waiting(home, name):
        entry = queries.find_last_decision(home, version)
        if entry is None or versions.find_champion(home, name) == version:
            continue  # a crash cut its approval off
        if _is_overdue(entry, max_wait):
            days = _decision_age(entry) / timedelta(days=1)
            reason = f"has waited {days:.1f} days for approval (registry.expires: {max_wait.days})"
            ledger.append_event(home, EXPIRED, version=version, reason=reason)
            versions.set_tags(home, name, version, decision=EXPIRED, reason=reason)


def _is_overdue(entry: ledger.Entry, max_wait: timedelta | None) -> bool:
    return max_wait is not None and _decision_age(entry) > max_wait


def _decision_age(entry: ledger.Entry) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(entry["time"])


def reject_version(home: Home, name: str, version: int, reason: str) -> None:
    """Reject a version that waits for approval.

    Args:
        reason: recorded in the ledger.
    Raises:
        RegistryError: the version does not wait, or is already champion because its approval was interrupted.
    """
    with home.lock("champion"):  # an approval cannot move the alias meanwhile
        state = _read_tag(home, name, version, "decision")
        if state != WAITING:
            raise RegistryError(f"version {version} of {name} does not wait for approval, {_describe_state(state)}")
        if versions.find_champion(home, name) == version:
            raise RegistryError(
                f"version {version} of {name} is the champion: its approval was interrupted after the alias had moved; "
                "go back with `evertune rollback RECIPE`, or approve it again to complete the approval"
            )
        ledger.append_event(home, "rejected-by-hand", version=version, reason=reason)
        versions.set_tags(home, name, version, decision="rejected", reason=reason)


def promote_version(home: Home, name: str, version: int, reason: str) -> None:
    """Make a version champion by hand, whatever the gate decided; it must pass the parity check.

    Args:
        reason: recorded in the ledger.
    Raises:
        RegistryError: there is no such version, it is champion already, its files have changed, or it fails the parity
            check.
    """
    _promote_checked(home, name, version, reason=reason, by_hand=True)
    versions.set_tags(home, name, version, decision="promoted", reason=reason)


def _promote_checked(home: Home, name: str, version: int, **facts: Unpack[ledger.MoveFacts]) -> None:
    current = versions.find_champion(home, name)
    if version == current:
        raise RegistryError(f"version {version} of {name} is already the champion")
    digest = _read_tag(home, name, version, "bundle")
    folder = versions.fetch_bundle(home, name, version)
    if _read_tag(home, name, version, "parity") != digest:
        _check_parity(home, name, version, folder)
        versions.set_tags(home, name, version, parity=digest)
    versions.move_champion(home, name, version, expected=current, **facts)


def roll_back_champion(home: Home, name: str, reason: str) -> int:
    """Make the champion's predecessor champion again and return its version; a second rollback goes back further.

    If a crash cut the last rollback off after the alias had moved, that one is confirmed and no second one is made:
    nobody has seen its result.

    Args:
        reason: recorded in the ledger.
    Raises:
        RegistryError: there is no predecessor, or its files are missing or changed.
    """
    intent = ledger.find_open_intent(home)
    versions.repair_ledger(home, name)
    current = versions.find_champion(home, name)
    if intent is not None and intent.get("rollback") and intent["to"] == current:
        return cast(int, current)
    if current is None:
        raise RegistryError(f"{name} has no champion; there is nothing to roll back")
    # A rollback to the champion does not count: the version that it left is not the champion's predecessor.
    # Nor does a move from nothing: for a while there was no champion, or another store was in use.
    predecessors = [
        entry["from"]
        for entry in ledger.read_entries(home)
        if entry["event"] in {"moved", "external"}
        and entry["to"] == current
        and entry["from"] is not None
        and not entry.get("rollback")
    ]
    if not predecessors:
        raise RegistryError(f"{name} had no champion before version {current}; there is nothing to go back to")
    predecessor = predecessors[-1]
    _promote_checked(home, name, predecessor, reason=f"rollback: {reason}", by_hand=True, rollback=True)
    return predecessor


def _check_parity(home: Home, name: str, version: int, folder: Path) -> None:
    with translate_errors(f"version {version} of {name}"):
        run = open_client(home).get_model_version(name, str(version)).run_id
    samples = [path.parent / "parity.json" for path in home.runs.glob("*/run.json") if run in path.read_text()]
    if not samples or not samples[0].exists():
        raise RegistryError(
            f"version {version} of {name} has no recorded sample for the parity check; run the recipe again"
        )
    if not read_json(samples[0])["inputs"]:
        raise RegistryError(
            f"version {version} of {name} is not promoted: all rows of its sample for the parity check were "
            "forgotten; run the recipe again for a version without them"
        )
    result = parity.check_parity(home, name, version, samples[0], bundle.read_card(folder)["precision"])
    if not result["passed"]:
        raise RegistryError(
            f"version {version} of {name} is not promoted, because it does not predict as it did when tested: "
            f"{parity.describe_failure(result)}"
        )


def _read_tag(home: Home, name: str, version: int, key: str) -> str | None:
    value = versions.fetch_version(home, name, version).tags.get(f"evertune.{key}")
    return None if value is None else str(value)
