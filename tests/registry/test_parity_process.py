"""The parity check's process, started ahead: used for the model that it was started for, and for no other."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evertune.registry.versions import parity, requirements
from evertune.runtime.home import Home
from tests.helpers.registry import Shop


@pytest.fixture(autouse=True)
def none_left(fresh_parity: None) -> Iterator[None]:
    yield
    parity.dismiss_prepared()


def waiting() -> list[parity._IsolatedProcess]:
    return list(parity._prepared_processes.values())


def check(shop: Shop) -> dict[str, object]:
    made, version = shop.registered()
    return parity.check_parity(shop.home, shop.name, version, Path(made.run_folder) / "parity.json", "fp32")


@pytest.mark.slow
def test_a_process_started_ahead_answers(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    parity.prepare_check(shop.home, requirements.list_requirements(shop.recipe))
    (ahead,) = waiting()
    monkeypatch.setattr(parity, "_IsolatedProcess", None)  # no other can be started
    assert check(shop)["passed"] is True
    assert (waiting(), ahead.is_alive()) == ([], False)


@pytest.mark.slow
def test_a_process_that_died_is_replaced(shop: Shop) -> None:
    parity.prepare_check(shop.home, requirements.list_requirements(shop.recipe))
    waiting()[0].close()
    assert check(shop)["passed"] is True


@pytest.mark.slow
def test_a_model_with_other_requirements_gets_a_process_of_its_own(shop: Shop) -> None:
    parity.prepare_check(shop.home, [*requirements.list_requirements(shop.recipe), "click"])
    parity.prepare_check(
        Home(shop.home.root.parent / "another", shop.name), requirements.list_requirements(shop.recipe)
    )
    ahead = waiting()
    assert check(shop)["passed"] is True
    assert waiting() == ahead
    assert all(one.is_alive() for one in ahead)


@pytest.mark.process
def test_what_was_started_in_vain_is_ended_with_its_files(tmp_path: Path) -> None:
    parity.prepare_check(Home(tmp_path / "home", "small"), ["pydantic>=2"])
    (ahead,) = waiting()
    scratch = Path(ahead._scratch.name)
    assert (scratch / "packages" / "pydantic").exists()
    parity.dismiss_prepared()
    assert (waiting(), ahead.is_alive(), scratch.exists()) == ([], False, False)


def test_what_cannot_be_started_is_left_to_the_check(tmp_path: Path) -> None:
    parity.prepare_check(Home(tmp_path / "home", "small"), ["no-such-package==1"])
    assert waiting() == []


@pytest.mark.process
def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    given = [parity.__file__.replace("parity.py", "parity_process.py"), str(tmp_path / "packages"), str(tmp_path / "a")]
    done = subprocess.run([sys.executable, "-I", "-S", *given], stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert (done.returncode, (tmp_path / "a").exists()) == (0, False)
