"""What people do by hand: approve, reject, promote, roll back; each with its reason, never past a check."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evertune.cli import check
from evertune.config import load_recipe
from evertune.errors import ConfigError, RegistryError
from evertune.registry.decisions import ledger, promotion
from evertune.registry.tracking import store
from evertune.registry.versions import versions as models
from evertune.runtime.files import write_json
from evertune.runtime.home import Home
from tests.helpers.cli import Done
from tests.helpers.crash import killed
from tests.helpers.registry import HELD, Shop, events, make_champion, moved_by_others, moves, settle, waiting


@pytest.mark.usefixtures("no_parity")
def test_a_version_that_waits_is_not_overwritten_and_is_approved_by_name(shop: Shop) -> None:
    shop.asking()
    made, first = shop.registered()
    decision = settle(shop, made, first)
    assert (decision.verdict, shop.champion()) == ("held", None)
    assert f"evertune approve RECIPE --version {first}" in decision.reason
    later, second = shop.registered()
    settle(shop, later, second, HELD)
    assert models.resolve_alias(shop.home, shop.name, "challenger") == second
    with pytest.raises(
        RegistryError, match=r"version 2 .* does not wait for approval, it is held; versions that wait: 1"
    ):
        promotion.approve_version(shop.home, shop.name, second, "no")
    promotion.approve_version(shop.home, shop.name, first, "looks good")
    assert shop.champion() == first
    assert (shop.tag(first, "decision"), shop.tag(first, "reason")) == ("promoted", "looks good")
    assert [one["reason"] for one in events(shop, "moved", "approved")] == ["looks good", "looks good"]
    with pytest.raises(RegistryError, match="does not wait for approval, it is promoted; no version waits"):
        promotion.approve_version(shop.home, shop.name, first, "again")


@pytest.mark.usefixtures("no_parity")
def test_an_approval_holds_for_the_champion_that_was_met(shop: Shop) -> None:
    _, first = waiting(shop)
    make_champion(shop, shop.checked())
    with pytest.raises(
        RegistryError, match=r"compared with no champion, but the champion is now version 2.*run RECIPE --force"
    ):
        promotion.approve_version(shop.home, shop.name, first, "late")
    assert shop.champion() == 2
    assert events(shop, "approved") == []


@pytest.mark.usefixtures("no_parity")
def test_only_what_was_checked_is_approved(shop: Shop) -> None:
    made, version = waiting(shop)
    models.set_tags(shop.home, shop.name, version, parity="of other files")
    with pytest.raises(RegistryError, match="never passed the parity check"):
        promotion.approve_version(shop.home, shop.name, version, "looks good")
    models.set_tags(shop.home, shop.name, version, parity=made.digest)
    file = models.fetch_bundle(shop.home, shop.name, version) / "evertune.json"
    kept = file.read_text()
    file.write_text(kept.replace("fp32", "bf16"))
    with pytest.raises(RegistryError, match=r"version 1 .*: its files have changed since it was registered"):
        promotion.approve_version(shop.home, shop.name, version, "looks good")
    assert (shop.champion(), events(shop, "intent", "moved", "approved")) == (None, [])
    file.write_text(kept)
    promotion.approve_version(shop.home, shop.name, version, "looks good")
    assert shop.champion() == version


@pytest.mark.usefixtures("no_parity")
def test_a_version_turned_down_waits_no_more(shop: Shop) -> None:
    _, version = waiting(shop)
    promotion.reject_version(shop.home, shop.name, version, "too odd")
    assert (shop.tag(version, "decision"), events(shop)[-1]["event"]) == ("rejected", "rejected-by-hand")
    for move in (promotion.reject_version, promotion.approve_version):
        with pytest.raises(RegistryError, match=r"version 1 of .* does not wait for approval, it is rejected"):
            move(shop.home, shop.name, version, "again")
    with pytest.raises(RegistryError, match="has no version 7"):
        promotion.approve_version(shop.home, shop.name, 7, "what")


def test_rollbacks_go_back_step_by_step_and_never_to_what_was_left(shop: Shop) -> None:
    with pytest.raises(RegistryError, match="no champion"):
        promotion.roll_back_champion(shop.home, shop.name, "why")
    for _ in range(3):
        make_champion(shop, shop.checked())
    assert promotion.roll_back_champion(shop.home, shop.name, "bad night") == 2
    assert promotion.roll_back_champion(shop.home, shop.name, "still bad") == 1
    with pytest.raises(RegistryError, match="no champion before version 1"):
        promotion.roll_back_champion(shop.home, shop.name, "all bad")
    assert shop.champion() == 1
    promotion.promote_version(shop.home, shop.name, 3, "it was not the model")
    assert promotion.roll_back_champion(shop.home, shop.name, "it was") == 1
    assert [one["reason"] for one in events(shop, "moved")][3:5] == ["rollback: bad night", "rollback: still bad"]


def test_a_rollback_that_was_killed_is_not_done_twice(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        make_champion(shop, shop.checked())
    append = ledger.append_event

    def dies(home: Home, event: str, **facts: Any) -> Any:
        if event == "moved":
            raise KeyboardInterrupt
        return append(home, event, **facts)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ledger, "append_event", dies)
        promotion.roll_back_champion(shop.home, shop.name, "a bad night")
    assert shop.champion() == 2
    assert promotion.roll_back_champion(shop.home, shop.name, "a bad night") == 2
    assert (shop.champion(), moves(shop)[-1]) == (2, ("moved", 3, 2))
    assert promotion.roll_back_champion(shop.home, shop.name, "a worse one") == 1


def test_a_rollback_after_a_move_by_others_goes_back_to_what_stood_before(shop: Shop) -> None:
    for _ in range(2):
        shop.checked()
    make_champion(shop, 1)
    moved_by_others(shop, 2)
    assert promotion.roll_back_champion(shop.home, shop.name, "who did this") == 1


def test_a_time_without_champion_does_not_hide_the_one_before(shop: Shop) -> None:
    for _ in range(2):
        make_champion(shop, shop.checked())
    moved_by_others(shop, None)
    models.repair_ledger(shop.home, shop.name)
    moved_by_others(shop, 2)
    models.repair_ledger(shop.home, shop.name)
    assert moves(shop)[-2:] == [("external", 2, None), ("external", None, 2)]
    assert promotion.roll_back_champion(shop.home, shop.name, "bad night") == 1


def test_by_hand_only_a_whole_version_becomes_champion(shop: Shop) -> None:
    make_champion(shop, shop.checked())
    with pytest.raises(RegistryError, match=r"version 1 .* is already the champion"):
        promotion.promote_version(shop.home, shop.name, 1, "why")
    with pytest.raises(RegistryError, match="version 9"):
        promotion.promote_version(shop.home, shop.name, 9, "why")
    version = shop.checked()
    file = models.fetch_bundle(shop.home, shop.name, version) / "evertune.json"
    file.write_text(file.read_text().replace("fp32", "bf16"))
    with pytest.raises(RegistryError, match=r"version 2 .*: its files have changed since it was registered"):
        promotion.promote_version(shop.home, shop.name, version, "why")
    file.unlink()
    with pytest.raises(RegistryError, match=r"version 2 .*: its files are missing; restore"):
        promotion.promote_version(shop.home, shop.name, version, "why")
    assert shop.champion() == 1


def test_a_version_that_others_registered_gets_the_place_unchecked_neither_by_hand(shop: Shop) -> None:
    make_champion(shop, first := shop.checked())
    store.open_client(shop.home).create_model_version(shop.name, str(shop.home.root / "elsewhere"))
    with pytest.raises(RegistryError, match="registered outside Evertune"):
        promotion.promote_version(shop.home, shop.name, 2, "why not")
    assert shop.champion() == first


def test_by_hand_an_unchecked_version_is_checked_first(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    make_champion(shop, shop.checked())
    made, version = shop.registered()
    seen: list[Path] = []

    def check(home: Any, name: str, version: int, sample: Path, precision: str) -> dict[str, Any]:
        seen.append(sample)
        return {"passed": len(seen) > 1, "problem": "it is too large"}

    monkeypatch.setattr("evertune.registry.versions.parity.check_parity", check)
    with pytest.raises(RegistryError, match="not predict as it did when tested: it is too large"):
        promotion.promote_version(shop.home, shop.name, version, "why")
    promotion.promote_version(shop.home, shop.name, version, "I know better")
    assert seen == [Path(made.run_folder) / "parity.json"] * 2
    assert shop.champion() == version
    last = events(shop)[-1]
    assert (last["reason"], last["by_hand"], shop.tag(version, "decision")) == ("I know better", True, "promoted")
    other, unknown = shop.registered()
    sample = Path(other.run_folder) / "parity.json"
    write_json(sample, {"role": "text", "inputs": [], "predictions": []})
    with pytest.raises(RegistryError, match="all rows of its sample for the parity check were forgotten"):
        promotion.promote_version(shop.home, shop.name, unknown, "why")
    sample.unlink()
    with pytest.raises(RegistryError, match="no recorded sample"):
        promotion.promote_version(shop.home, shop.name, unknown, "why")


@pytest.mark.usefixtures("no_parity")
def test_a_waiting_version_that_is_promoted_by_hand_waits_no_more(shop: Shop) -> None:
    _, version = waiting(shop)
    promotion.promote_version(shop.home, shop.name, version, "now")
    with pytest.raises(RegistryError, match="no version waits"):
        promotion.approve_version(shop.home, shop.name, version, "too late")


def age(home: Home, days: float) -> None:
    """All that stands in the ledger happened so many days earlier."""
    now = datetime.now(UTC)
    moved = [{**one, "time": (now - timedelta(days=days)).isoformat()} for one in ledger.read_entries(home)]
    aged = home.ledger.with_suffix(".aged")
    aged.write_text("".join(f"{json.dumps(one)}\n" for one in moved))
    aged.replace(home.ledger)  # another file: what this process has read of the old one counts no more


@pytest.mark.usefixtures("no_parity")
def test_who_has_waited_too_long_is_told_so_in_ledger_and_message(
    shop: Shop, evertune: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    _, version = waiting(shop)
    command = ("approve", tmp_path / "recipe.yaml", "--version", str(version), "--reason", "late")
    recipe = (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(f"{recipe}registry: {{promote: ask, expires: 14 days}}\n")
    age(shop.home, 14.1)
    for _ in range(2):
        done = evertune(*command)
        assert (done.status, shop.champion()) == (5, None)
        assert "waited 14.1 days for approval (registry.expires: 14); compare it again" in done.err
        assert "`evertune promote`" in done.err
    [entry] = events(shop, "expired")
    assert (entry["version"], shop.tag(version, "decision")) == (version, "expired")
    assert "expired" in evertune("history", tmp_path / "recipe.yaml").out
    with pytest.raises(RegistryError, match="does not wait"):
        promotion.reject_version(shop.home, shop.name, version, "late")
    promotion.promote_version(shop.home, shop.name, version, "I looked at it myself")
    assert shop.champion() == version


@pytest.mark.usefixtures("no_parity")
def test_what_a_clock_that_was_ahead_took_off_is_approved_once_the_clock_is_right(shop: Shop) -> None:
    _, version = waiting(shop)
    age(shop.home, 400)  # seen from a machine whose clock is a year ahead
    promotion.expire_waiting(shop.home, shop.name, timedelta(days=14))
    assert shop.tag(version, "decision") == "expired"
    age(shop.home, -397)
    promotion.approve_version(shop.home, shop.name, version, "in time", timedelta(days=14))
    assert (shop.champion(), shop.tag(version, "decision")) == (version, "promoted")


@pytest.mark.usefixtures("no_parity")
def test_before_that_it_is_approved_and_never_is_never(shop: Shop) -> None:
    _, first = waiting(shop)
    age(shop.home, 13.9)
    promotion.approve_version(shop.home, shop.name, first, "in time", timedelta(days=14))
    _, second = waiting(shop)
    age(shop.home, 5000)
    promotion.approve_version(shop.home, shop.name, second, "at last", None)
    assert (shop.champion(), events(shop, "expired")) == (second, [])


@pytest.mark.usefixtures("no_parity")
def test_the_next_night_takes_those_off_that_have_waited_too_long(shop: Shop) -> None:
    _, first = waiting(shop)
    age(shop.home, 31)
    _, second = waiting(shop)
    assert [one["version"] for one in events(shop, "expired")] == [first]
    assert promotion.list_waiting(shop.home, shop.name) == [second]


@pytest.mark.usefixtures("no_parity")
def test_an_approval_that_a_crash_cut_off_does_not_expire(shop: Shop) -> None:
    _, version = waiting(shop)
    with killed(models, "set_tags", "before"):
        promotion.approve_version(shop.home, shop.name, version, "fine")
    age(shop.home, 31)
    promotion.approve_version(shop.home, shop.name, version, "fine", timedelta(days=14))
    assert (shop.champion(), shop.tag(version, "decision")) == (version, "promoted")


@pytest.mark.usefixtures("no_parity")
def test_a_champion_is_not_turned_down_where_its_approval_was_cut_off(shop: Shop) -> None:
    _, version = waiting(shop)
    with killed(models, "set_tags", "before"):
        promotion.approve_version(shop.home, shop.name, version, "fine")
    with pytest.raises(RegistryError, match=r"version 1 .* is the champion: .*evertune rollback"):
        promotion.reject_version(shop.home, shop.name, version, "changed my mind")
    assert (shop.champion(), events(shop, "rejected-by-hand")) == (version, [])
    promotion.approve_version(shop.home, shop.name, version, "fine")
    assert shop.tag(version, "decision") == "promoted"


@pytest.mark.usefixtures("no_parity")
def test_a_no_stays_one_when_the_run_goes_on_after_a_crash(shop: Shop) -> None:
    made, version = waiting(shop)
    promotion.reject_version(shop.home, shop.name, version, "too odd")
    decision = settle(shop, made, version)
    assert (decision.verdict, decision.waiting, shop.tag(version, "decision")) == ("rejected", False, "rejected")
    assert decision.reason.endswith(": too odd")


@pytest.mark.parametrize("given", ["0 days", "two weeks", "14", "14 d"])
def test_a_time_of_expiry_is_in_days(write_recipe: Callable[..., Path], tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match=r"registry.expires: write a number of days, such as `14 days`, or `never`"):
        load_recipe(write_recipe(tmp_path, registry={"expires": given}))


def test_check_says_what_the_last_challenger_waits_for(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    assert check._describe_held_version(shop.recipe) == []
    held: ledger.Facts = {"version": 3, "verdict": "held", "reason": "About 40 more rows would be enough."}
    ledger.append_event(shop.home, "decision", **held)
    assert check._describe_held_version(shop.recipe) == [
        "the last run held version 3: About 40 more rows would be enough."
    ]
    ledger.append_event(shop.home, "decision", version=4, verdict="promoted", reason="Probably better.")
    assert check._describe_held_version(shop.recipe) == []
