"""What follows from a decision: aliases, tags, ledger, whatever crashes in between or others move meanwhile."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evertune.errors import RegistryError
from evertune.records import Decision
from evertune.registry.decisions import ledger, promotion
from evertune.registry.decisions import queries as decisions
from evertune.registry.versions import versions as models
from evertune.runtime.context import RunContext
from tests.helpers.crash import Killed
from tests.helpers.registry import HELD, REJECTED, Shop, events, make_champion, moved_by_others, moves, settle


@pytest.mark.parametrize("decision", [HELD, REJECTED])
def test_without_evidence_the_champion_stays(shop: Shop, decision: Decision) -> None:
    make_champion(shop, shop.checked())
    made, version = shop.registered()
    assert settle(shop, made, version, decision) == decision
    assert shop.champion() == 1
    assert models.resolve_alias(shop.home, shop.name, "challenger") == version == 2
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
    assert decisions.find_opponent(shop.home, shop.name, made.run_id) == 1
    assert settle(shop, made, version, HELD) == first
    assert models.register_version(RunContext(shop.recipe, shop.home), made, ["x"]) == version
    assert events(shop) == before
    assert len(models.list_versions(shop.home, shop.name)) == 2
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
    append = ledger.append_event

    def dies(home: Any, event: str, **facts: Any) -> Any:
        if event == "moved":
            raise Killed
        found = append(home, event, **facts)
        if event == "intent" and after == "intent":
            raise Killed
        return found

    monkeypatch.setattr(ledger, "append_event", dies)
    with pytest.raises(Killed):
        settle(shop, made, version)
    monkeypatch.setattr(ledger, "append_event", append)
    assert shop.champion() == (1 if after == "intent" else 2)
    assert settle(shop, made, version).verdict == "promoted"
    assert shop.champion() == 2
    repaired = [("moved", 1, 2)] if after == "alias" else [("abandoned", 1, 2), ("intent", 1, 2), ("moved", 1, 2)]
    assert moves(shop)[2:] == [("intent", 1, 2), *repaired]
    assert len(events(shop, "decision")) == 1
    assert ledger.find_open_intent(shop.home) is None


def test_a_move_by_others_is_recorded(shop: Shop) -> None:
    for _ in range(2):
        shop.checked()
    make_champion(shop, 1)
    moved_by_others(shop, 2)
    for _ in range(2):
        models.repair_ledger(shop.home, shop.name)
        assert moves(shop)[2:] == [("external", 1, 2)]
    moved_by_others(shop, None)
    models.repair_ledger(shop.home, shop.name)
    assert moves(shop)[-1] == ("external", 2, None)


def test_nothing_moves_when_the_champion_moved_meanwhile(shop: Shop) -> None:
    for _ in range(3):
        shop.checked()
    make_champion(shop, 1)
    make_champion(shop, 2)
    with pytest.raises(RegistryError, match="is version 2, and was 1 at the time of the decision; compare again"):
        models.move_champion(shop.home, shop.name, 3, expected=1, reason="late")
    assert shop.champion() == 2
    assert moves(shop)[-1] == ("moved", 1, 2)


def test_another_store_is_refused_and_leaves_the_ledger_as_it_is(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        make_champion(shop, shop.checked())
    before = shop.home.ledger.read_bytes()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
        for act in (
            models.repair_ledger,
            models.find_champion,
            lambda *given: promotion.roll_back_champion(*given, "bad night"),
        ):
            with pytest.raises(RegistryError, match="another store"):
                act(shop.home, shop.name)
    assert shop.home.ledger.read_bytes() == before
    assert promotion.roll_back_champion(shop.home, shop.name, "bad night") == 1


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
