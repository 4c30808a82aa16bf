"""An approval beside what others do at the same moment, and after what a crash cut off."""

from pathlib import Path
from typing import Any

import pytest

from evertune.errors import RegistryError
from evertune.registry.decisions import promotion
from evertune.registry.versions import versions as models
from tests.helpers.registry import Shop, events, settle, waiting


@pytest.mark.usefixtures("no_parity")
def test_who_turns_it_down_while_another_approves_is_heard(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _, version = waiting(shop)
    whole = models.fetch_bundle

    def meanwhile(*place: Any) -> Path:
        promotion.reject_version(shop.home, shop.name, version, "too odd")
        return whole(*place)

    monkeypatch.setattr(models, "fetch_bundle", meanwhile)  # its digest takes a while
    with pytest.raises(RegistryError, match=r"no longer waits for approval, it is rejected"):
        promotion.approve_version(shop.home, shop.name, version, "fine")
    assert (shop.champion(), shop.tag(version, "decision"), events(shop, "moved")) == (None, "rejected", [])


@pytest.mark.usefixtures("no_parity")
def test_a_run_that_goes_on_after_the_approval_of_its_model_tells_of_it(shop: Shop) -> None:
    made, version = waiting(shop)
    promotion.approve_version(shop.home, shop.name, version, "fine")
    decision = settle(shop, made, version)
    assert (decision.verdict, decision.waiting) == ("promoted", False)
    assert decision.reason.startswith("approved by ") and decision.reason.endswith(": fine")
