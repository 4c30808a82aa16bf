"""Killed at every step boundary and inside each step, started again: after weeks of it all is as if never killed.

EVERTUNE_CRASH_POINTS raises the number of kills, EVERTUNE_CRASH_SEED chooses others.
"""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evertune.registry.versions import versions as models
from tests.helpers.cli import Project
from tests.helpers.crash_history import ROWS, WORDS, Worker, new_project, state, working, write_week
from tests.helpers.crash_worker import STEPS
from tests.helpers.paths import PYTHONPATH

pytestmark = pytest.mark.process
KILLS = int(os.environ.get("EVERTUNE_CRASH_POINTS", "20"))
SEED = int(os.environ.get("EVERTUNE_CRASH_SEED", "17"))
PROCESSES = bool(os.environ.get("EVERTUNE_CRASH_PROCESSES"))  # judge and check parity in other processes, as on a night
Counts = dict[str, int]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
    own = {"PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")), "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    with working({**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH, **own}) as one:
        yield one


@pytest.fixture(scope="module")
def uninterrupted(
    worker: Worker, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, model_store: Path
) -> tuple[list[Any], list[Counts]]:
    project = new_project(tmp_path_factory.mktemp("whole"), tiny_model, model_store.with_name("empty"))
    return whole(worker, project, len(WORDS))


def whole(worker: Worker, project: Project, weeks: int, rows: int = ROWS) -> tuple[list[Any], list[Counts]]:
    """What is true at each week's end of a project that nobody kills, and how many points each step has."""
    states = []
    counts = []
    for week in range(weeks):
        write_week(project, week, rows)
        told = worker.run(project, processes=PROCESSES)
        assert "error" not in told, told
        states.append((told["outcome"]["decision"], state(project)))
        counts.append(told["counts"])
    return states, counts


def plan(counts: Counts, draw: random.Random, boundaries: bool) -> list[dict[str, Any]]:
    """A point inside each step, or the one before each and the one behind the last."""
    if boundaries:
        return [{"step": step, "number": 1, "torn": False} for step in (*STEPS, f"after {STEPS[-1]}")]
    return [{"step": step, "number": draw.randint(2, counts[step]), "torn": draw.random() < 0.5} for step in STEPS]


def test_killed_at_any_point_it_ends_as_if_never_killed(
    worker: Worker, uninterrupted: tuple[list[Any], list[Counts]], tiny_model: Path, model_store: Path, tmp_path: Path
) -> None:
    states, counts = uninterrupted
    draw = random.Random(SEED)
    killed = list[str]()
    for life in range(1000):
        project = new_project(tmp_path / str(life), tiny_model, model_store.with_name("empty"))
        for week in range(len(WORDS)):
            write_week(project, week)
            killed += die(worker, project, plan(counts[week], draw, boundaries=not killed))
            told = worker.run(project, processes=PROCESSES)
            assert "error" not in told, (told, killed)
            assert state(project) == states[week][1], killed
        if len(killed) >= KILLS:
            break


def test_a_challenger_that_became_champion_just_before_a_kill_is_concluded_as_what_it_was(
    worker: Worker, tiny_model: Path, model_store: Path, tmp_path: Path
) -> None:
    """Trainings that go on from the champion: the next run must not take the cut-off one's model for it."""
    fresh: dict[str, Any] = {"epochs": 8, "train_on": "replay", "start_from": "champion"}
    weeks = 2
    rows = 3 * ROWS
    draw = random.Random(SEED)
    project = new_project(tmp_path / "whole", tiny_model, model_store.with_name("empty"), **fresh)
    states, counts = whole(worker, project, weeks, rows)
    assert [decision for decision, _ in states] == ["promoted"] * weeks, states
    killed = new_project(tmp_path / "killed", tiny_model, model_store.with_name("empty"), **fresh)
    for week in range(weeks):
        write_week(killed, week, rows)
        inside = [("finetune", counts[week]["finetune"] // 2), ("promote", counts[week]["promote"])]
        points = [*inside, ("after promote", 1), ("conclude", draw.randint(2, counts[week]["conclude"]))]
        died = die(worker, killed, [{"step": step, "number": number, "torn": False} for step, number in points])
        assert len(died) == len(points)
        assert "error" not in worker.run(killed)
        assert state(killed) == states[week][1], died


def test_a_student_of_the_champion_that_took_its_place_just_before_a_kill_is_not_its_own_teacher(
    worker: Worker, tiny_model: Path, model_store: Path, tmp_path: Path
) -> None:
    project = new_project(tmp_path / "student", tiny_model, model_store.with_name("empty"), epochs=8)
    write_week(project, 0, 3 * ROWS)
    assert worker.run(project)["outcome"]["decision"] == "promoted"
    text = project.recipe.read_text()
    project.recipe.write_text(text.replace("training:", "training:\n  distill: {teacher: champion, weight: 0.5}"))
    write_week(project, 1, 3 * ROWS)
    assert die(worker, project, [{"step": "after promote", "number": 1, "torn": False}])
    outcome = worker.run(project)["outcome"]
    assert (outcome["decision"], outcome["version"], outcome["champion_version"]) == ("promoted", 2, 2)
    assert models.describe_version(project.home, "tickets", 2)["model"]["teacher_version"] == "1"


def die(worker: Worker, project: Project, points: list[dict[str, Any]]) -> list[str]:
    """Run into one point after the other; each run goes on where the last was killed."""
    killed = []
    for point in points:
        told = worker.run(project, point, PROCESSES)
        assert "error" not in told, (told, killed)
        killed += [told["killed"]] if told["signal"] == signal.SIGKILL else []  # else it ended before this point
    return killed
