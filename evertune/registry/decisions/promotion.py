"""What follows from a decision: tags, aliases and the ledger; and the moves that a person makes."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.errors import RegistryError
from evertune.records import Candidate, Decision, Evaluation, plain
from evertune.registry.decisions import ledger
from evertune.registry.decisions import queries as decisions
from evertune.registry.tracking.store import client, said
from evertune.registry.versions import parity
from evertune.registry.versions import versions as models
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.serving import bundle

if TYPE_CHECKING:
    from evertune.config import Recipe

logger = logging.getLogger(__name__)
WAITING = "awaiting approval"
EXPIRED = "expired"
ANEW = "compare anew with `evertune run RECIPE --force`, or make it champion by hand with `evertune promote`"


def settle(
    recipe: "Recipe", home: Home, candidate: Candidate, evaluation: Evaluation, decision: Decision, version: int
) -> Decision:
    """Carry out a decision: the challenger alias, the parity check, then the champion alias; every step in the ledger.

    A decision that was carried out before a crash is given again as it was, and a person's no stays one.

    Raises:
        RegistryError: MLflow refused, or the champion was moved meanwhile.
    """
    name = recipe.registered_name
    models.repair(home, name)
    decided = decisions.on(home, version)
    if decided is not None and models.champion(home, name) == version:
        verdict, reason = decisions.by_hand(home, version) or (decided["verdict"], decided["reason"])
        return Decision(verdict, reason, tuple(decided["evidence"]))
    if (no := decisions.turned_down(home, version)) is not None:
        return Decision("rejected", f"turned down by {no['who']}: {no['reason']}", decision.evidence)
    expire(home, name, recipe.registry.waits)
    models.set_challenger(home, name, version)
    if decision.verdict == "promoted":
        decision = _with_parity(home, name, version, candidate, decision)
    if asked := decision.verdict == "promoted" and recipe.registry.promote == "ask":
        decision = replace(
            decision,
            waiting=True,
            verdict="held",
            reason=f"{decision.reason}; {WAITING}: evertune approve RECIPE --version {version}",
        )
    facts: dict[str, Any] = {
        "version": version, "champion": evaluation.champion_version, "reason": decision.reason,
        "run_id": candidate.run_id, "evidence": decision.evidence,
    }  # fmt: skip
    _record(home, verdict=decision.verdict, **facts)
    models.tag(home, name, version, decision=WAITING if asked else decision.verdict, reason=decision.reason[:4000])
    if decision.verdict == "promoted":
        models.move_champion(
            home, name, version, expected=evaluation.champion_version, reason=decision.reason, run_id=candidate.run_id
        )
    return decision


def _record(home: Home, **facts: Any) -> None:
    """A decision in the ledger, once: a run that goes on after a crash decides again, and the same."""
    last, new = decisions.on(home, facts["version"]), plain(facts)
    if last is None or any(last[key] != value for key, value in new.items()):
        ledger.append(home, "decision", **facts)


def _with_parity(home: Home, name: str, version: int, candidate: Candidate, decision: Decision) -> Decision:
    sample = Path(candidate.run_folder) / "parity.json"
    found = parity.check(home, name, version, sample, bundle.card(Path(candidate.bundle))["precision"])
    if found["passed"]:
        models.tag(home, name, version, parity=candidate.digest)
        return replace(decision, evidence=(*decision.evidence, found))
    reason = f"the registered model does not answer as the tested one did: {parity.why(found)}"
    return Decision("held", reason, (*decision.evidence, found))


def approve(home: Home, name: str, version: int, reason: str, waits: timedelta | None = None) -> None:
    """Make a version champion that waits for approval.

    One that expired by a clock that was ahead, or by a shorter `registry.expires`, can be approved all the same.

    Args:
        waits: how long a version may wait; None for ever.
    Raises:
        RegistryError: that version does not wait, or has waited too long, its files changed, or the champion did since
            it was compared.
    """
    decided, state = _asked(home, name, version, waits)
    now = models.champion(home, name)
    if now != version:
        if now != decided["champion"]:
            before = f"version {decided['champion']}" if decided["champion"] else "no champion"
            raise RegistryError(
                f"version {version} of {name} was compared with {before}, and the champion is version {now} now: "
                f"that is no evidence any more; {ANEW}"
            )
        models.bundle_of(home, name, version)
        if _tag(home, name, version, "parity") != _tag(home, name, version, "bundle"):
            raise RegistryError(f"version {version} of {name} never passed the parity check; run the recipe again")
        still = partial(_same_word, home, name, version, state)  # nobody turns it down meanwhile
        models.move_champion(home, name, version, expected=decided["champion"], still=still, reason=reason)
    ledger.append(home, "approved", version=version, reason=reason)
    models.tag(home, name, version, decision="promoted", reason=reason)


def _asked(home: Home, name: str, version: int, waits: timedelta | None) -> tuple[dict[str, Any], str]:
    """The decision on a version that waits for a person, and its tag."""
    expire(home, name, waits)
    decided, state = decisions.on(home, version), _tag(home, name, version, "decision")
    if state == EXPIRED and (decided is None or _overdue(decided, waits)):
        raise RegistryError(f"version {version} of {name} {_tag(home, name, version, 'reason')}; {ANEW}")
    if state not in {WAITING, EXPIRED} or decided is None:
        there = f"these wait: {', '.join(map(str, found))}" if (found := waiting(home, name)) else "none waits"
        raise RegistryError(f"version {version} of {name} does not wait for approval, {_is(state)}; {there}")
    return decided, str(state)


def _is(state: str | None) -> str:
    """What became of a version that does not wait."""
    return f"it is {state}" if state else "no decision on it is on record"


def _same_word(home: Home, name: str, version: int, state: str) -> None:
    now = _tag(home, name, version, "decision")
    if now != state:
        raise RegistryError(f"version {version} of {name} does not wait for approval any more, {_is(now)}")


def waiting(home: Home, name: str) -> list[int]:
    """The versions that wait for approval."""
    return [int(one.version) for one in models.versions(home, name, WAITING)]


def expire(home: Home, name: str, waits: timedelta | None) -> None:
    """Take versions that have waited too long off the list, and say so in the ledger; the champion is none of them.

    Args:
        waits: how long a version may wait; None for ever.
    """
    for version in waiting(home, name) if waits else []:
        decided = decisions.on(home, version)
        if decided is None or models.champion(home, name) == version:
            continue  # a crash cut its approval off
        if waits is not None and _overdue(decided, waits):
            days = _age(decided) / timedelta(days=1)
            reason = f"has waited {days:.1f} days for approval, registry.expires allows {waits.days}"
            ledger.append(home, EXPIRED, version=version, reason=reason)
            models.tag(home, name, version, decision=EXPIRED, reason=reason)


def _overdue(decided: dict[str, Any], waits: timedelta | None) -> bool:
    return waits is not None and _age(decided) > waits


def _age(decided: dict[str, Any]) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(decided["time"])


def reject(home: Home, name: str, version: int, reason: str) -> None:
    """Take a version off the list of those that wait.

    Raises:
        RegistryError: that version does not wait, or is champion, by an approval that was cut off.
    """
    with home.lock("champion"):  # no approval of it moves the alias meanwhile
        if (state := _tag(home, name, version, "decision")) != WAITING:
            raise RegistryError(f"version {version} of {name} does not wait for approval, {_is(state)}")
        if models.champion(home, name) == version:
            raise RegistryError(
                f"version {version} of {name} is the champion: its approval was cut off after the alias had moved; go "
                "back with `evertune rollback RECIPE`, or approve it again to end what was begun"
            )
        ledger.append(home, "rejected-by-hand", version=version, reason=reason)
        models.tag(home, name, version, decision="rejected", reason=reason)


def promote(home: Home, name: str, version: int, reason: str) -> None:
    """Make a version champion by hand, whatever the gate said; it must answer as it did when it was tested.

    Raises:
        RegistryError: no such version, it is champion already, its files have changed, or it fails the parity check.
    """
    _promote(home, name, version, reason=reason, by_hand=True)
    models.tag(home, name, version, decision="promoted", reason=reason)


def _promote(home: Home, name: str, version: int, **facts: Any) -> None:
    now = models.champion(home, name)
    if version == now:
        raise RegistryError(f"version {version} of {name} is the champion already")
    digest = _tag(home, name, version, "bundle")
    folder = models.bundle_of(home, name, version)
    if _tag(home, name, version, "parity") != digest:
        _check_parity(home, name, version, folder)
        models.tag(home, name, version, parity=digest)
    models.move_champion(home, name, version, expected=now, **facts)


def rollback(home: Home, name: str, reason: str) -> int:
    """Make the champion's predecessor champion again and return its version; a second rollback goes back further.

    One that was killed after the alias moved is confirmed, and no second one: nobody was told of the first.

    Raises:
        RegistryError: there is no predecessor, or it is not whole.
    """
    begun = ledger.open_intent(home)
    models.repair(home, name)
    now = models.champion(home, name)
    if begun is not None and begun.get("rollback") and begun["to"] == now:
        return int(begun["to"])
    if now is None:
        raise RegistryError(f"{name} has no champion; there is nothing to go back to")
    # How a rollback came to `now` does not count: its predecessor is not the version that was left then.
    # Nor does a move from nothing: for a while there was no champion, or another store was asked.
    moves = [one for one in ledger.entries(home) if one["event"] in {"moved", "external"} and one["to"] == now
             and one["from"] is not None and not one.get("rollback")]  # fmt: skip
    if not moves:
        raise RegistryError(f"{name} has no champion before version {now}; there is nothing to go back to")
    before = int(moves[-1]["from"])
    _promote(home, name, before, reason=f"rollback: {reason}", by_hand=True, rollback=True)
    return before


def _check_parity(home: Home, name: str, version: int, folder: Path) -> None:
    with said(f"version {version} of {name}"):
        run = client(home).get_model_version(name, str(version)).run_id
    samples = [path.parent / "parity.json" for path in home.runs.glob("*/run.json") if run in path.read_text()]
    if not samples or not samples[0].exists():
        raise RegistryError(
            f"version {version} of {name} has no recorded sample to check it against; run the recipe again"
        )
    if not read_json(samples[0])["inputs"]:
        raise RegistryError(
            f"version {version} of {name} is not promoted: all rows of its recorded sample were forgotten, and nothing "
            "is left to check it against; run the recipe again for a version without them"
        )
    found = parity.check(home, name, version, samples[0], bundle.card(folder)["precision"])
    if not found["passed"]:
        raise RegistryError(
            f"version {version} of {name} is not promoted, it does not answer as it did when tested: "
            f"{parity.why(found)}"
        )


def _tag(home: Home, name: str, version: int, key: str) -> str | None:
    value = models.registered(home, name, version).tags.get(f"evertune.{key}")
    return None if value is None else str(value)
