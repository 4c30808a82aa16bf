"""So many jobs at a time on a host, and one run of a recipe: who waits, what is said, and what a death frees."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evertune.backtesting.kept_scores import KeptModel
from evertune.backtesting.replay import Replay
from evertune.config import Recipe, load_recipe
from evertune.errors import ConfigError, RegistryError
from evertune.objectives import load_objective
from evertune.runtime import job_slots as jobs
from evertune.runtime.home import home_of
from tests.helpers.model import recipe, split_rows, table, text_rows, train
from tests.helpers.paths import PYTHONPATH
from tests.helpers.registry import Shop, evaluation

pytestmark = pytest.mark.process

HOLDS = """
import sys, time
from evertune.runtime import job_slots as jobs
with jobs.hold_slot("tickets"):
    print("held", flush=True)
    time.sleep(600)
"""


class WaitsError(Exception):
    """What is raised in place of the waiting."""


@pytest.fixture(autouse=True)
def own_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for temporary files, so places, of the test's own; and one place."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(jobs.SETTING, "1")


def waits(_: float) -> None:
    raise WaitsError


@contextmanager
def another() -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds a place."""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    process = subprocess.Popen([sys.executable, "-c", HOLDS], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("given", "gpu", "count"), [("", False, 0), ("", True, 1), ("3", True, 3), ("0", True, 0)])
def test_a_gpu_makes_one_place_and_the_environment_another_number(
    monkeypatch: pytest.MonkeyPatch, given: str, gpu: bool, count: int
) -> None:
    monkeypatch.setenv(jobs.SETTING, given)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert jobs.count_slots() == count


@pytest.mark.parametrize("given", ["two", "-1", "1.5"])
def test_what_is_no_number_is_a_config_error(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(jobs.SETTING, given)
    with (
        pytest.raises(ConfigError, match=rf"EVERTUNE_JOBS={given}: set it to the number of jobs"),
        jobs.hold_slot("mine"),
    ):
        pass


@pytest.mark.process
def test_a_place_is_free_once_its_holder_is_killed_and_who_waits_says_for_whom(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "evertune")
    with another() as holder:

        def dies(_: float) -> None:
            holder.kill()
            holder.wait()

        monkeypatch.setattr(jobs.time, "sleep", dies)
        with jobs.hold_slot("mine"):
            pass
    [said] = [one.getMessage() for one in caplog.records]
    words = (
        f"jobs at a time on this host: 1 (EVERTUNE_JOBS); mine waits for recipe tickets, process {holder.pid}, since"
    )
    assert said.startswith(words)


def test_with_two_places_the_third_job_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(jobs.SETTING, "2")
    monkeypatch.setattr(jobs.time, "sleep", waits)
    with jobs.hold_slot("one"):
        with jobs.hold_slot("two"), pytest.raises(WaitsError), jobs.hold_slot("three"):
            pass
        with jobs.hold_slot("three"):
            pass


def test_a_training_takes_a_place_and_a_finished_one_needs_none(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recipe(tiny_model, training={"epochs": 1})
    rows = split_rows(text_rows(20))
    with another(), monkeypatch.context() as patch:
        patch.setattr(jobs.time, "sleep", waits)
        with pytest.raises(WaitsError):
            train(one, tmp_path, rows)
    made = train(one, tmp_path, rows)
    with another():
        assert train(one, tmp_path, rows) == made


def test_the_scoring_of_test_rows_takes_a_place_and_a_kept_one_needs_none(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks import evaluate

    made = shop.candidate()
    held = list[bool]()
    report = evaluation(metrics={"test": {shop.recipe.metric: 0.9}})

    def scored(*_: Any) -> Any:
        held.append(jobs._lock_free_slot(jobs._list_slot_files(1)) is None)
        return report

    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    monkeypatch.setattr(evaluate, "show_metrics", lambda *_: None)
    monkeypatch.setattr("evertune.runs.comparison.score_models", scored)
    step = evaluate.evaluate.__wrapped__  # type: ignore[attr-defined]
    assert step(made, shop.recipe) == report
    with another():
        assert step(made, shop.recipe) == report
    assert held == [True]


def test_a_look_for_drift_and_the_scoring_of_a_file_take_a_place(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import monitor, score

    one = recipe(tiny_model, folder=tmp_path)
    reached = list[str]()
    write = tmp_path / "a.csv"
    write.write_text("text\na\n")
    monkeypatch.setattr(jobs.time, "sleep", waits)
    monkeypatch.setattr("evertune.registry.versions.versions.find_champion", lambda *_: 1)
    monkeypatch.setattr("evertune.registry.versions.versions.fetch_bundle", lambda *_: tmp_path)
    monkeypatch.setattr("evertune.monitoring.monitor.load_corpus_sides", lambda *_: (None, None))
    monkeypatch.setattr("evertune.monitoring.monitor.compare_sides", lambda *_: reached.append("look"))
    monkeypatch.setattr("evertune.serving.scoring.score_file", lambda *_: reached.append("score"))
    with another():
        with pytest.raises(WaitsError):
            monitor.look.fn(one, None, None)
        with pytest.raises(WaitsError):
            score.predict.fn(one, str(write), str(tmp_path / "b.csv"))
    score.predict.fn(one, str(write), str(tmp_path / "b.csv"))
    assert reached == ["score"]


def test_a_backtest_takes_a_place_before_it_loads_a_model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table([{**row, "row_key": f"{row['text']}", "group": ""} for row in text_rows(30)], "test")
    later = [{**row, "row_key": f"{row['text']}", "group": "", "component": 900} for row in text_rows(30, start=100)]
    loaded = list[Path]()
    replay = object.__new__(Replay)
    replay.recipe = recipe(tiny_model)
    replay._objective = load_objective("text-classification")
    replay._target = "label"
    replay._load_predictor = loaded.append  # type: ignore[assignment]
    replay.history = SimpleNamespace(facts=SimpleNamespace(names=("a", "b")))  # type: ignore[assignment]
    replay.windows = [1, 2]  # type: ignore[assignment]
    monkeypatch.setattr(replay, "obtain_bundle", lambda model: Path("champion"))
    champion = KeptModel(1, "key", "", 0.0, "", (), np.zeros((1, 1)), None)
    candidate: Any = SimpleNamespace(bundle="challenger")
    monkeypatch.setattr(replay, "rows_until", lambda _: rows)
    monkeypatch.setattr(replay, "rows_between", lambda *_: table(later))
    monkeypatch.setattr(jobs.time, "sleep", waits)
    with another():
        with pytest.raises(WaitsError):
            replay._compare_rows(champion, 1, 2)
        with pytest.raises(WaitsError):
            replay._score_model(candidate, 2, "key", None)
    assert loaded == []


@pytest.fixture
def mine(tiny_recipe: Callable[..., Path]) -> Recipe:
    return load_recipe(tiny_recipe())


def test_a_second_run_of_a_recipe_by_hand_leaves_and_names_the_first(
    mine: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks import step

    monkeypatch.setattr(step, "SOON", 0.0)
    with step.exclusive_run(mine), pytest.raises(RegistryError) as left, step.exclusive_run(mine):
        pass
    assert (
        f"has held the run lock of small for 0 s; wait until it ends (recipe small, process {os.getpid()}, since "
        in (str(left.value))
    )


def test_a_second_run_by_a_deployment_waits_and_says_for_whom(mine: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import step

    said = list[str]()
    with ExitStack() as first:
        first.enter_context(home_of(mine).lock("run", noted=True))

        def ends(words: str, *arguments: object) -> None:
            said.append(words % arguments)
            first.close()

        monkeypatch.setattr(step, "SOON", 0.0)
        monkeypatch.setattr(step, "deployment", SimpleNamespace(id="a deployment"))
        monkeypatch.setattr(step, "logger", SimpleNamespace(info=ends))
        with step.exclusive_run(mine):
            pass
    [words] = said
    assert f"process {os.getpid()}" in words and words.endswith("; this run starts after it")
