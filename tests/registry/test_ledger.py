"""The ledger: whole entries in their order, whatever crashes and however many write at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.records import Outcome
from evertune.registry.decisions import ledger
from evertune.runtime.home import Home
from tests.helpers.paths import PYTHONPATH

WRITER = """
import sys
from pathlib import Path
from evertune.runtime.home import Home
from evertune.registry.decisions import ledger
home = Home(Path(sys.argv[1]), "small")
for number in range(25):
    ledger.append_event(home, "decision", writer=sys.argv[2], number=number, padding="x" * 20_000)
"""


def made(folder: Path) -> Home:
    return Home(folder / "home", "small")


def test_entries_come_back_in_order_with_time_and_person(tmp_path: Path) -> None:
    home = made(tmp_path)
    for number in range(5):
        ledger.append_event(home, "decision", number=number, reason="größer, “better”\u2028")
    found = ledger.read_entries(home)
    assert [one["number"] for one in found] == list(range(5))
    assert all(one["time"].endswith("+00:00") and one["who"] and one["reason"].endswith("\u2028") for one in found)


def test_no_ledger_is_no_entries(tmp_path: Path) -> None:
    assert ledger.read_entries(made(tmp_path)) == []
    assert not (tmp_path / "home").exists()


@settings(deadline=None, max_examples=30)
@given(cut=st.integers(0, 400))
def test_a_torn_entry_costs_itself_only(tmp_path_factory: object, cut: int) -> None:
    home = made(tmp_path_factory.mktemp("torn"))  # type: ignore[attr-defined]
    ledger.append_event(home, "decision", number=1)
    whole = home.ledger.stat().st_size
    ledger.append_event(home, "decision", number=2, evidence=[{"test": "superior", "words": "é" * 50}])
    os.truncate(home.ledger, min(home.ledger.stat().st_size, whole + cut))
    kept = [one["number"] for one in ledger.read_entries(home)]
    ledger.append_event(home, "decision", number=3)
    assert [one["number"] for one in ledger.read_entries(home)] == [*kept, 3]
    assert kept[:1] == [1]


@pytest.mark.process
def test_concurrent_writers_lose_and_mix_nothing(tmp_path: Path) -> None:
    start = [sys.executable, "-c", WRITER, str(tmp_path / "home")]
    writers = [
        subprocess.Popen([*start, name], env={**os.environ, "PYTHONPATH": PYTHONPATH, "EVERTUNE_USER": name})
        for name in "abc"
    ]
    assert [one.wait() for one in writers] == [0, 0, 0]
    lines = made(tmp_path).ledger.read_text().splitlines()
    found = [json.loads(line) for line in lines]
    for name in "abc":
        assert [one["number"] for one in found if one["writer"] == name] == list(range(25))
    assert all(one["who"] == one["writer"] for one in found)


def test_the_champion_and_an_open_move_are_read_from_the_moves(tmp_path: Path) -> None:
    home = made(tmp_path)
    assert (ledger.find_last_champion(home), ledger.find_open_intent(home)) == (None, None)
    ledger.append_event(home, "intent", **{"from": None, "to": 1})
    assert ledger.find_last_champion(home) is None
    assert ledger.find_open_intent(home)["to"] == 1  # type: ignore[index]
    ledger.append_event(home, "moved", **{"from": None, "to": 1})
    ledger.append_event(home, "external", **{"from": 1, "to": 4})
    assert (ledger.find_last_champion(home), ledger.find_open_intent(home)) == (4, None)
    ledger.append_event(home, "intent", **{"from": 4, "to": 5})
    ledger.append_event(home, "abandoned", **{"from": 4, "to": 5})
    assert (ledger.find_last_champion(home), ledger.find_open_intent(home)) == (4, None)


def test_an_unchanged_run_is_recorded_with_the_champion_of_today(tmp_path: Path) -> None:
    home = made(tmp_path)
    ledger.append_event(home, "moved", **{"from": 1, "to": 2})
    old = Outcome("unchanged", "nothing new", "small", 1, 1, None, {}, {}, {}, {}, None)
    assert ledger.record_unchanged(home, old).champion_version == 2
    last = ledger.read_entries(home)[-1]
    assert (last["event"], last["champion"], last["reason"]) == ("unchanged", 2, "nothing new")
