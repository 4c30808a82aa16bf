"""What follows from a decision: aliases, tags, ledger, whatever crashes in between; and what people do by hand."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from registry_helpers import HELD, PROMOTED, REJECTED, Shop, evaluation

from evertune.errors import RegistryError
from evertune.records import Candidate, Decision
from evertune.registry import ledger, models, promotion


class Killed(BaseException):
    """What a process that dies leaves undone."""


def events(shop: Shop, *names: str) -> list[dict[str, Any]]:
    return [one for one in ledger.entries(shop.home) if not names or one["event"] in names]


def moves(shop: Shop) -> list[tuple[str, int | None, int | None]]:
    return [(one["event"], one["from"], one["to"]) for one in events(shop) if "to" in one]


def settle(shop: Shop, made: Candidate, version: int, decision: Decision = PROMOTED) -> Decision:
    met = promotion.opponent(shop.home, shop.name, made.run_id)
    return promotion.settle(shop.recipe, shop.home, made, evaluation(met), decision, version)


def make_champion(shop: Shop, version: int) -> None:
    models.move_champion(shop.home, shop.name, version, expected=shop.champion(), reason="test")


@pytest.fixture
def no_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parity check has its own tests; it takes many seconds."""
    passed = {"test": "parity", "passed": True, "problem": None}
    monkeypatch.setattr("evertune.registry.parity.check", lambda *_: passed)


@pytest.mark.parametrize("decision", [HELD, REJECTED])
def test_without_evidence_the_champion_stays(shop: Shop, decision: Decision) -> None:
    make_champion(shop, shop.checked())
    made, version = shop.registered()
    assert settle(shop, made, version, decision) == decision
    assert shop.champion() == 1
    assert models.alias(shop.home, shop.name, "challenger") == version == 2
    assert (shop.tag(2, "decision"), shop.tag(2, "reason")) == (decision.verdict, decision.reason)
    last = events(shop)[-1]
    assert (last["event"], last["verdict"], last["version"], last["champion"]) == ("decision", decision.verdict, 2, 1)
    assert last["evidence"] == list(decision.evidence)


@pytest.mark.usefixtures("no_parity")
def test_on_evidence_the_alias_moves_with_intent_and_confirmation(shop: Shop) -> None:
    made, version = shop.registered()
    decision = settle(shop, made, version)
    assert [one["test"] for one in decision.evidence] == ["superior", "parity"]
    assert shop.champion() == version
    assert [one["event"] for one in events(shop)] == ["decision", "intent", "moved"]
    assert moves(shop) == [("intent", None, 1), ("moved", None, 1)]
    assert (shop.tag(1, "decision"), shop.tag(1, "parity")) == ("promoted", made.digest)


@pytest.mark.usefixtures("no_parity")
def test_a_decision_that_was_carried_out_is_given_again(shop: Shop) -> None:
    make_champion(shop, shop.checked())
    made, version = shop.registered()
    first = settle(shop, made, version)
    before = events(shop)
    assert promotion.opponent(shop.home, shop.name, made.run_id) == 1
    assert settle(shop, made, version, HELD) == first
    assert models.register(shop.recipe, shop.home, made, ["x"]) == version
    assert events(shop) == before
    assert len(models.versions(shop.home, shop.name)) == 2
    assert shop.tag(version, "decision") == "promoted"


def test_a_decision_made_twice_is_recorded_once(shop: Shop) -> None:
    made, version = shop.registered()
    settle(shop, made, version, HELD)
    settle(shop, made, version, HELD)
    assert len(events(shop, "decision")) == 1
    settle(shop, made, version, replace(HELD, reason="another reason"))
    assert len(events(shop, "decision")) == 2


@pytest.mark.usefixtures("no_parity")
@pytest.mark.parametrize("after", ["intent", "alias"])
def test_what_a_crash_left_of_a_move_is_repaired(shop: Shop, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    make_champion(shop, shop.checked())
    made, version = shop.registered()
    append = ledger.append

    def dies(home: Any, event: str, **facts: Any) -> Any:
        if event == "moved":
            raise Killed
        found = append(home, event, **facts)
        if event == "intent" and after == "intent":
            raise Killed
        return found

    monkeypatch.setattr(ledger, "append", dies)
    with pytest.raises(Killed):
        settle(shop, made, version)
    monkeypatch.setattr(ledger, "append", append)
    assert shop.champion() == (1 if after == "intent" else 2)
    assert settle(shop, made, version).verdict == "promoted"
    assert shop.champion() == 2
    repaired = [("moved", 1, 2)] if after == "alias" else [("abandoned", 1, 2), ("intent", 1, 2), ("moved", 1, 2)]
    assert moves(shop)[2:] == [("intent", 1, 2), *repaired]
    assert len(events(shop, "decision")) == 1
    assert ledger.open_intent(shop.home) is None


def test_a_move_by_others_is_recorded(shop: Shop) -> None:
    from evertune.registry.store import client

    for _ in range(2):
        shop.checked()
    make_champion(shop, 1)
    client(shop.home).set_registered_model_alias(shop.name, "champion", "2")
    for _ in range(2):
        models.repair(shop.home, shop.name)
        assert moves(shop)[2:] == [("external", 1, 2)]
    client(shop.home).delete_registered_model_alias(shop.name, "champion")
    models.repair(shop.home, shop.name)
    assert moves(shop)[-1] == ("external", 2, None)


def test_nothing_moves_when_the_champion_moved_meanwhile(shop: Shop) -> None:
    for _ in range(3):
        shop.checked()
    make_champion(shop, 1)
    make_champion(shop, 2)
    with pytest.raises(RegistryError, match="is version 2, not 1 as when this was decided; compare anew"):
        models.move_champion(shop.home, shop.name, 3, expected=1, reason="late")
    assert shop.champion() == 2
    assert moves(shop)[-1] == ("moved", 1, 2)


@pytest.mark.usefixtures("no_parity")
def test_a_version_that_waits_is_not_overwritten_and_is_approved_by_name(shop: Shop) -> None:
    shop.asking()
    made, first = shop.registered()
    decision = settle(shop, made, first)
    assert (decision.verdict, shop.champion()) == ("held", None)
    assert f"evertune approve RECIPE --version {first}" in decision.reason
    later, second = shop.registered()
    settle(shop, later, second, HELD)
    assert models.alias(shop.home, shop.name, "challenger") == second
    with pytest.raises(RegistryError, match=r"version 2 .* does not wait for approval; these wait: 1"):
        promotion.approve(shop.home, shop.name, second, "no")
    promotion.approve(shop.home, shop.name, first, "looks good")
    assert shop.champion() == first
    assert (shop.tag(first, "decision"), shop.tag(first, "reason")) == ("promoted", "looks good")
    assert [one["reason"] for one in events(shop, "moved", "approved")] == ["looks good", "looks good"]
    with pytest.raises(RegistryError, match="does not wait for approval; none waits"):
        promotion.approve(shop.home, shop.name, first, "again")


@pytest.mark.usefixtures("no_parity")
def test_an_approval_holds_for_the_champion_that_was_met(shop: Shop) -> None:
    shop.asking()
    made, first = shop.registered()
    settle(shop, made, first)
    make_champion(shop, shop.checked())
    with pytest.raises(RegistryError, match="is version 2, not None as when this was decided"):
        promotion.approve(shop.home, shop.name, first, "late")
    assert shop.champion() == 2
    assert events(shop, "approved") == []


@pytest.mark.usefixtures("no_parity")
def test_only_what_was_checked_is_approved(shop: Shop) -> None:
    shop.asking()
    made, version = shop.registered()
    settle(shop, made, version)
    models.tag(shop.home, shop.name, version, parity="of other files")
    with pytest.raises(RegistryError, match="never passed the parity check"):
        promotion.approve(shop.home, shop.name, version, "looks good")
    models.tag(shop.home, shop.name, version, parity=made.digest)
    file = models.bundle_of(shop.home, shop.name, version) / "evertune.json"
    kept = file.read_text()
    file.write_text(kept.replace("fp32", "bf16"))
    with pytest.raises(RegistryError, match=r"version 1 .*: its files are not those that were registered"):
        promotion.approve(shop.home, shop.name, version, "looks good")
    assert (shop.champion(), events(shop, "intent", "moved", "approved")) == (None, [])
    file.write_text(kept)
    promotion.approve(shop.home, shop.name, version, "looks good")
    assert shop.champion() == version


@pytest.mark.usefixtures("no_parity")
def test_a_version_turned_down_waits_no_more(shop: Shop) -> None:
    shop.asking()
    made, version = shop.registered()
    settle(shop, made, version)
    promotion.reject(shop.home, shop.name, version, "too odd")
    assert (shop.tag(version, "decision"), events(shop)[-1]["event"]) == ("rejected", "rejected-by-hand")
    for move in (promotion.reject, promotion.approve):
        with pytest.raises(RegistryError, match="does not wait"):
            move(shop.home, shop.name, version, "again")
    with pytest.raises(RegistryError, match="has no version 7"):
        promotion.approve(shop.home, shop.name, 7, "what")


def test_rollbacks_go_back_step_by_step_and_never_to_what_was_left(shop: Shop) -> None:
    with pytest.raises(RegistryError, match="no champion"):
        promotion.rollback(shop.home, shop.name, "why")
    for _ in range(3):
        make_champion(shop, shop.checked())
    assert promotion.rollback(shop.home, shop.name, "bad night") == 2
    assert promotion.rollback(shop.home, shop.name, "still bad") == 1
    with pytest.raises(RegistryError, match="no champion before version 1"):
        promotion.rollback(shop.home, shop.name, "all bad")
    assert shop.champion() == 1
    promotion.promote(shop.home, shop.name, 3, "it was not the model")
    assert promotion.rollback(shop.home, shop.name, "it was") == 1
    assert [one["reason"] for one in events(shop, "moved")][3:5] == ["rollback: bad night", "rollback: still bad"]


def test_a_rollback_after_a_move_by_others_goes_back_to_what_stood_before(shop: Shop) -> None:
    from evertune.registry.store import client

    for _ in range(2):
        shop.checked()
    make_champion(shop, 1)
    client(shop.home).set_registered_model_alias(shop.name, "champion", "2")
    assert promotion.rollback(shop.home, shop.name, "who did this") == 1


def test_another_store_is_refused_and_leaves_the_ledger_as_it_is(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        make_champion(shop, shop.checked())
    before = shop.home.ledger.read_bytes()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
        for act in (models.repair, models.champion, lambda *given: promotion.rollback(*given, "bad night")):
            with pytest.raises(RegistryError, match="another store"):
                act(shop.home, shop.name)
    assert shop.home.ledger.read_bytes() == before
    assert promotion.rollback(shop.home, shop.name, "bad night") == 1


def test_a_time_without_champion_does_not_hide_the_one_before(shop: Shop) -> None:
    from evertune.registry.store import client

    for _ in range(2):
        make_champion(shop, shop.checked())
    client(shop.home).delete_registered_model_alias(shop.name, "champion")
    models.repair(shop.home, shop.name)
    client(shop.home).set_registered_model_alias(shop.name, "champion", "2")
    models.repair(shop.home, shop.name)
    assert moves(shop)[-2:] == [("external", 2, None), ("external", None, 2)]
    assert promotion.rollback(shop.home, shop.name, "bad night") == 1


def test_by_hand_only_a_whole_version_becomes_champion(shop: Shop) -> None:
    make_champion(shop, shop.checked())
    with pytest.raises(RegistryError, match=r"version 1 .* is the champion already"):
        promotion.promote(shop.home, shop.name, 1, "why")
    with pytest.raises(RegistryError, match="version 9"):
        promotion.promote(shop.home, shop.name, 9, "why")
    version = shop.checked()
    file = models.bundle_of(shop.home, shop.name, version) / "evertune.json"
    file.write_text(file.read_text().replace("fp32", "bf16"))
    with pytest.raises(RegistryError, match=r"version 2 .*: its files are not those that were registered"):
        promotion.promote(shop.home, shop.name, version, "why")
    file.unlink()
    with pytest.raises(RegistryError, match=r"version 2 .*: its files are not there; restore"):
        promotion.promote(shop.home, shop.name, version, "why")
    assert shop.champion() == 1


def test_by_hand_an_unchecked_version_is_checked_first(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    make_champion(shop, shop.checked())
    made, version = shop.registered()
    seen: list[Path] = []

    def check(home: Any, name: str, version: int, sample: Path, precision: str) -> dict[str, Any]:
        seen.append(sample)
        return {"passed": len(seen) > 1, "problem": "it is too large"}

    monkeypatch.setattr("evertune.registry.parity.check", check)
    with pytest.raises(RegistryError, match="not answer as it did when tested: it is too large"):
        promotion.promote(shop.home, shop.name, version, "why")
    promotion.promote(shop.home, shop.name, version, "I know better")
    assert seen == [Path(made.run_folder) / "parity.json"] * 2
    assert shop.champion() == version
    last = events(shop)[-1]
    assert (last["reason"], last["by_hand"], shop.tag(version, "decision")) == ("I know better", True, "promoted")
    other, unknown = shop.registered()
    (Path(other.run_folder) / "parity.json").unlink()
    with pytest.raises(RegistryError, match="no recorded sample"):
        promotion.promote(shop.home, shop.name, unknown, "why")


@pytest.mark.usefixtures("no_parity")
def test_a_waiting_version_that_is_promoted_by_hand_waits_no_more(shop: Shop) -> None:
    shop.asking()
    made, version = shop.registered()
    settle(shop, made, version)
    promotion.promote(shop.home, shop.name, version, "now")
    with pytest.raises(RegistryError, match="none waits"):
        promotion.approve(shop.home, shop.name, version, "too late")


def test_the_champion_moves_under_the_lock(shop: Shop) -> None:
    shop.checked()
    mover = threading.Thread(target=make_champion, args=(shop, 1))
    with shop.home.lock("champion"):
        mover.start()
        mover.join(1)
        assert mover.is_alive()
        assert (shop.champion(), moves(shop)) == (None, [])
    mover.join()
    assert (shop.champion(), moves(shop)) == (1, [("intent", None, 1), ("moved", None, 1)])
