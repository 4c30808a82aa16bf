"""Whom a challenger meets, on which rows, and what ends no run."""

from pathlib import Path
from typing import Any

import pytest

from evertune.runs import comparison
from evertune.runs.comparison import Opponent
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json
from tests.helpers.model import recipe, table, text_rows
from tests.helpers.registry import Shop, evaluation, make_champion, moved_by_others, settle


def test_the_opponent_is_the_champion_that_the_run_met(shop: Shop, no_parity: None) -> None:
    first, version = shop.registered()
    assert comparison.find_opponent(RunContext(shop.recipe, shop.home), first.run_id) == Opponent(None)
    settle(shop, first, version)
    assert shop.champion() == version
    assert comparison.find_opponent(RunContext(shop.recipe, shop.home), first.run_id) == Opponent(None)  # it met none
    second, _ = shop.registered()
    assert comparison.find_opponent(RunContext(shop.recipe, shop.home), second.run_id) == Opponent(version)


def test_a_champion_that_was_taken_away_is_a_problem(shop: Shop) -> None:
    make_champion(shop, shop.checked())
    moved_by_others(shop, None)
    made, _ = shop.registered()
    opponent = comparison.find_opponent(RunContext(shop.recipe, shop.home), made.run_id)
    assert opponent.version is None and opponent.problem is not None


def test_another_opponent_is_another_evaluation(shop: Shop) -> None:
    made = shop.candidate()
    opponents = (Opponent(None), Opponent(1), Opponent(2), Opponent(None, "lost"))
    keys = [comparison.compute_evaluation_key(made, shop.recipe, opponent) for opponent in opponents]
    assert len(set(keys)) == 4
    assert comparison.compute_evaluation_key(made, shop.recipe, Opponent(1)) == keys[1]


def test_a_champion_that_cannot_be_read_is_a_problem_and_no_error(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop.candidate()
    seen: list[Any] = []

    def evaluate_models(*arguments: Any, problem: str | None) -> Any:
        seen.append((arguments[4], arguments[5], problem))
        return evaluation(problem=problem)

    monkeypatch.setattr(comparison, "load_test_rows", lambda *_: (None, set()))
    monkeypatch.setattr(comparison.evaluate, "evaluate_models", evaluate_models)
    monkeypatch.setattr(comparison, "describe_baseline", lambda *_: {"why": "not here"})
    report = comparison.score_models(made, RunContext(shop.recipe, shop.home), Opponent(99))
    [(champion, version, problem)] = seen
    assert (champion, version) == (None, 99)
    assert problem is not None and problem.startswith("the champion, version 99, cannot be read: ")
    assert report.problem == problem
    folder = Path(made.run_folder)
    assert read_json(folder / "drift.json") is None
    assert read_json(folder / "zero_shot.json") == {"why": "not here"}


def test_a_baseline_that_fails_ends_no_run(
    shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison.zero_shot, "supports_baseline", lambda _: 1 / 0)
    rows = table(text_rows(3), "test")
    assert comparison.describe_baseline(shop.recipe, rows, shop.candidate()) is None
    assert "zero-shot baseline not measured: ZeroDivisionError" in caplog.text


def test_a_drift_check_that_fails_ends_no_run(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = table([{**row, "batch": 1 + number // 40} for number, row in enumerate(text_rows(80))], "test")
    assert comparison.describe_drift(recipe(tiny_model), tmp_path / "no bundle", 3, rows, 1) is None
    assert "drift of the new test rows not measured: TrainingError" in caplog.text
