"""What a model takes, beside the champion."""

from pathlib import Path
from typing import Any

import pytest

from evertune.evaluation import resources
from evertune.runs import comparison
from evertune.runs.comparison import Opponent
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json
from tests.helpers.model import table, text_rows
from tests.helpers.registry import INPUTS, Shop, evaluation, make_champion


def test_a_model_takes_what_an_equal_one_takes(shop: Shop) -> None:
    first = Path(shop.candidate().bundle)
    second = Path(shop.candidate().bundle)
    measured = resources.measure_resources(first, second, INPUTS * 5, (30.0, 20.0))
    assert measured["rows"] == 32
    assert measured["champion"] is not None
    assert measured["challenger"]["memory"] == measured["champion"]["memory"] > 1000
    assert measured["ratios"]["memory"] == 1.0
    assert measured["ratios"]["training"] == 1.5
    assert measured["ratios"]["size"] == pytest.approx(1.0, abs=0.01)
    assert set(measured["ratios"]) == {"size", "memory", "latency", "training"}


def test_a_slower_and_larger_model_is_measured_as_such(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio of times is the median of the pairs, so that a disturbance of one pair does not count."""
    clock = iter([0.0, 0.3, 0.3, 0.4, 1.0, 9.0, 9.0, 9.1, 10.0, 10.2, 10.2, 10.3, *range(20, 60)])
    monkeypatch.setattr(resources, "_choose_clock", lambda: ("processor", lambda: next(clock)))
    monkeypatch.setattr(resources, "PAIRS", 3)
    first = Path(shop.candidate().bundle)
    second = Path(shop.candidate(lambda folder: (folder / "more.bin").write_bytes(bytes(1 << 22)) and None).bundle)
    measured = resources.measure_resources(second, first, INPUTS)
    assert measured["ratios"]["latency"] == pytest.approx(3.0)
    assert measured["ratios"]["size"] > 1.5
    assert "training" not in measured["ratios"]


def test_a_first_version_is_measured_alone(shop: Shop) -> None:
    measured = resources.measure_resources(Path(shop.candidate().bundle), None, INPUTS)
    assert measured["champion"] is None
    assert measured["ratios"] == {}
    assert measured["challenger"]["seconds"] > 0


def test_a_run_writes_what_both_take_and_what_a_simple_model_reaches(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = shop.checked()
    make_champion(shop, version)
    made = shop.candidate()
    rows = table([{**row, "row_version": str(number)} for number, row in enumerate(text_rows(40))], "train")
    rows = rows.append_column("batch", [[1] * 40])

    def evaluate_models(*_: Any, problem: str | None) -> Any:
        return evaluation(problem=problem)

    monkeypatch.setattr(comparison, "load_test_rows", lambda *_: (rows, set()))
    monkeypatch.setattr(comparison.evaluate, "evaluate_models", evaluate_models)
    monkeypatch.setattr(comparison, "describe_baseline", lambda *_: None)
    monkeypatch.setattr(comparison, "describe_drift", lambda *_: None)
    monkeypatch.setattr(comparison.corpus, "read_rows", lambda *_: rows)
    comparison.score_models(made, RunContext(shop.recipe, shop.home), Opponent(version))
    folder = Path(made.run_folder)
    measured = read_json(folder / "resources.json")
    baseline = read_json(folder / "word_baseline.json")
    assert measured is not None and baseline is not None
    assert measured["ratios"]["memory"] == 1.0
    assert baseline["train_rows"] == 40
    assert baseline["metrics"]["accuracy"] > 0.9
