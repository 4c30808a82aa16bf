"""How a run ended: whether it repeats an earlier one, what is recorded, and what waits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evertune.records import Outcome, Snapshot, TooLittle, to_plain
from evertune.registry.decisions import ledger
from evertune.registry.tracking import runs
from evertune.runs import outcome as outcomes
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home
from tests.helpers.registry import HELD, Shop, evaluation, make_champion, settle, tokens_of

DONE = Outcome("promoted", "good", "small", 3, 3, "run", {}, {"new": 60}, {"test": {"f1_macro": 0.9}}, {}, "page")
SNAPSHOT = Snapshot(2, "s2", {"train": 10}, (), 2, new=5, accepted=4, refused=1, reasons={"empty text": 1})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home(tmp_path, "small")
    place.model.mkdir(parents=True)
    return place


def decide(home: Home, version: int) -> None:
    ledger.append_event(home, "decision", version=version)


def test_a_run_that_was_concluded_is_repeated_while_its_version_is_champion(home: Home, tmp_path: Path) -> None:
    assert not outcomes.is_repetition(home, tmp_path, DONE)  # never concluded
    decide(home, 3)
    (tmp_path / "concluded").write_text(str(outcomes.count_decisions(home, 3)))
    assert outcomes.is_repetition(home, tmp_path, DONE)
    assert not outcomes.is_repetition(home, tmp_path, replace(DONE, champion_version=2))  # rolled back
    decide(home, 2)
    assert outcomes.is_repetition(home, tmp_path, DONE)  # a decision on another version
    decide(home, 3)
    assert not outcomes.is_repetition(home, tmp_path, DONE)  # this run has decided on it


@pytest.mark.parametrize(("champion", "expected"), [(3, True), (2, False)])
def test_of_an_empty_note_the_last_conclusion_tells(home: Home, tmp_path: Path, champion: int, expected: bool) -> None:
    (tmp_path / "concluded").touch()
    assert not outcomes.is_repetition(home, tmp_path, DONE)  # nothing was ever concluded
    write_json(home.state, {"concluded": {"outcome": {"champion_version": champion}}})
    assert outcomes.is_repetition(home, tmp_path, DONE) is expected


def test_rows_that_wait_repeat_the_last_outcome(shop: Shop) -> None:
    few = TooLittle("no train rows")
    first = outcomes.build_waiting_outcome(few, SNAPSHOT, RunContext(shop.recipe, shop.home))
    assert (first.decision, first.reason, first.version, first.metrics) == ("unchanged", "no train rows", None, {})
    write_json(shop.home.state, {"concluded": {"outcome": to_plain(DONE)}})
    found = outcomes.build_waiting_outcome(few, SNAPSHOT, RunContext(shop.recipe, shop.home))
    assert (found.decision, found.reason, found.version) == ("unchanged", "no train rows", 3)
    assert found.metrics == DONE.metrics
    assert found.rows == {"new": 5, "accepted": 4, "refused": 1, "reasons": {"empty text": 1}}
    assert found.snapshot == {"version": 2, "rows": {"train": 10}, "fingerprint": "s2"}


def test_the_outcome_of_a_held_challenger_names_its_version_and_the_champion(shop: Shop, no_parity: None) -> None:
    champion = shop.checked()
    make_champion(shop, champion)
    made, version = shop.registered()
    settle(shop, made, version, HELD)
    found = outcomes.build_outcome(
        made, evaluation(champion), HELD, RunContext(shop.recipe, shop.home), {"ingest": 1.0}
    )
    assert (found.decision, found.reason, found.run_id) == ("held", "too few rows", made.run_id)
    assert (found.version, found.champion_version) == (version, champion)
    assert found.training["steps"] == made.steps and found.seconds == {"ingest": 1.0} and found.report is None


@pytest.mark.parametrize(
    ("problem", "champion", "recorded"), [(None, 2, True), ("unreadable", 2, False), ("unreadable", 3, True)]
)
def test_rows_are_done_unless_the_champion_could_not_be_read(
    shop: Shop, tmp_path: Path, problem: str | None, champion: int, recorded: bool
) -> None:
    state: dict[str, Any] = {"sources": {}}
    write_json(shop.home.state, state)
    decide(shop.home, 3)
    run = runs.Run(shop.home, "a run", tmp_path)
    result = replace(DONE, champion_version=champion)
    report = evaluation(2, problem=problem)
    outcomes.mark_concluded(run, RunContext(shop.recipe, shop.home), result, report, tokens_of(1).snapshot)
    assert ("concluded" in read_json(shop.home.state)) is recorded
    marker = tmp_path / "concluded"
    assert (marker.read_text() == "1") if recorded else not marker.exists()
