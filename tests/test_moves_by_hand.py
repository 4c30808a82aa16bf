"""What people do by hand: approve, reject, promote, roll back; each with its reason, never past a check."""

from pathlib import Path
from typing import Any

import pytest
from registry_helpers import HELD, Shop, events, make_champion, moved_by_others, moves, settle, waiting

from evertune.errors import RegistryError
from evertune.registry import models, promotion


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
    _, first = waiting(shop)
    make_champion(shop, shop.checked())
    with pytest.raises(RegistryError, match="is version 2, not None as when this was decided"):
        promotion.approve(shop.home, shop.name, first, "late")
    assert shop.champion() == 2
    assert events(shop, "approved") == []


@pytest.mark.usefixtures("no_parity")
def test_only_what_was_checked_is_approved(shop: Shop) -> None:
    made, version = waiting(shop)
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
    _, version = waiting(shop)
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
    for _ in range(2):
        shop.checked()
    make_champion(shop, 1)
    moved_by_others(shop, 2)
    assert promotion.rollback(shop.home, shop.name, "who did this") == 1


def test_a_time_without_champion_does_not_hide_the_one_before(shop: Shop) -> None:
    for _ in range(2):
        make_champion(shop, shop.checked())
    moved_by_others(shop, None)
    models.repair(shop.home, shop.name)
    moved_by_others(shop, 2)
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
    _, version = waiting(shop)
    promotion.promote(shop.home, shop.name, version, "now")
    with pytest.raises(RegistryError, match="none waits"):
        promotion.approve(shop.home, shop.name, version, "too late")
