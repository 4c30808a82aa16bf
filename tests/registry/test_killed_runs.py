"""Runs that a killed process left RUNNING in MLflow: closed by whatever comes next, while others are let alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evertune.records import Monitoring, Outcome
from evertune.registry.tracking import queries, store, unfinished
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking.backtests import Backtest
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from tests.helpers.paths import PYTHONPATH
from tests.helpers.registry import Shop, tokens_of

FOUND = Monitoring("m", 1, False, "p = 0.5", 0.5, 0.05, {"reference": 30, "current": 30}, "a.csv")

DONE = Outcome("unchanged", "nothing new", "m", 1, 1, "r", {}, {}, {}, {}, None)


def status(shop: Shop, run_id: str) -> str:
    return str(store.open_client(shop.home).get_run(run_id).info.status)


def begun(shop: Shop, number: int) -> str:
    """A run whose process is gone; the test holds no lock."""
    return tracking.open_run(RunContext(shop.recipe, shop.home), tokens_of(number), shop.home.runs / str(number)).run_id


def backtest(shop: Shop, number: int) -> Backtest:
    folder = shop.home.model / "backtests" / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    return Backtest(shop.recipe, shop.home, folder, "week")


def look(shop: Shop) -> str:
    folder = shop.home.monitors / "20261122"
    folder.mkdir(parents=True, exist_ok=True)
    return queries.record_monitoring(RunContext(shop.recipe, shop.home), FOUND, folder)


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_next_run_closes_those_of_other_snapshots_of_backtests_and_of_monitors(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [begun(shop, 1), backtest(shop, 1).run_id]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mlflow.MlflowClient.log_artifacts", interrupted)
        look(shop)
    assert unfinished.has_open_runs(shop.home)
    mine = begun(shop, 2)
    assert [status(shop, one) for one in left] == ["KILLED", "KILLED"]
    place = store.ensure_experiment(shop.home, shop.recipe.name)
    running = store.open_client(shop.home).search_runs([place], "attributes.status = 'RUNNING'")
    assert [one.info.run_id for one in running] == [mine]


def test_a_run_that_goes_on_closes_the_others_too(shop: Shop) -> None:
    first = begun(shop, 1)
    second = begun(shop, 2)
    assert (status(shop, first), status(shop, second)) == ("KILLED", "RUNNING")
    assert begun(shop, 1) == first
    assert (status(shop, first), status(shop, second)) == ("RUNNING", "KILLED")


@pytest.mark.parametrize("other", [look, lambda shop: backtest(shop, 2).run_id])
def test_a_monitor_and_a_backtest_close_what_a_dead_run_left(shop: Shop, other: Callable[[Shop], str]) -> None:
    left = begun(shop, 1)
    other(shop)
    assert status(shop, left) == "KILLED"


def test_what_is_at_work_is_let_alone(shop: Shop) -> None:
    with shop.home.lock("backtest"):
        other = backtest(shop, 1).run_id
        begun(shop, 1)
        assert status(shop, other) == "RUNNING"
    with shop.home.lock("run"):
        mine = begun(shop, 2)
        look(shop)
        unfinished.close_abandoned(shop.home, shop.recipe.name)
        assert (status(shop, mine), status(shop, other)) == ("RUNNING", "KILLED")
        assert unfinished.has_open_runs(shop.home)


def test_runs_of_another_home_in_the_same_mlflow_are_let_alone(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = begun(shop, 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri(shop.home))
    unfinished.close_abandoned(Home(tmp_path / "elsewhere", shop.home.name), shop.recipe.name, held_lock="run")
    assert status(shop, theirs) == "RUNNING"


KILLED = """
import os, signal, sys
from pathlib import Path
from evertune.config import load_recipe
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.registry.tracking import runs as tracking
from tests.helpers.registry import tokens_of
recipe, home = load_recipe({recipe!r}), Home(Path({root!r}), {name!r})
with home.lock("run", noted=True):
    tracking.open_run(RunContext(recipe, home), tokens_of(1), home.runs / "1")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.process
def test_nothing_new_closes_what_a_forced_run_left_that_was_killed(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evertune.runs import up_to_date as conclusion
    from evertune.runs.unchanged import record_if_unchanged

    script = KILLED.format(
        recipe=str(tmp_path / "recipe.yaml"),
        root=str(shop.home.root),
        name=shop.home.name,
    )
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == -signal.SIGKILL
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    monkeypatch.setattr(conclusion, "check_before_start", lambda *_: DONE)
    assert record_if_unchanged(shop.recipe) is not None
    [one] = store.open_client(shop.home).search_runs([store.ensure_experiment(shop.home, shop.recipe.name)])
    assert one.info.status == "KILLED"
    assert not unfinished.has_open_runs(shop.home)
