"""Trainings in several processes: a model without dropout, the processes that run, and how one of them is killed."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from evertune.config import Recipe
from tests.helpers.model import recipe, split_rows, text_rows
from tests.helpers.paths import PYTHONPATH

ROWS = split_rows(text_rows(60))
SECONDS = 120.0  # that a condition may take on a busy machine
PROGRAM = """
import sys
from pathlib import Path
from tests.helpers.model import train
from tests.helpers.process import ROWS, in_processes
train(in_processes(Path(sys.argv[1]), 2, epochs=400), Path(sys.argv[2]), ROWS)
"""


def in_processes(model: Path, count: int, objective: Any = None, **training: Any) -> Recipe:
    """The tiny model's recipe for so many processes, with a checkpoint every three steps."""
    settings = {"checkpoint_steps": 3, **training, "processes": count}
    return recipe(model, training=settings) if objective is None else recipe(model, objective, training=settings)


def workers(below: int) -> list[psutil.Process]:
    """The workers below a process, in the order of their ranks."""
    found = {}
    for one in psutil.Process(below).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "evertune.training.distributed.worker" in one.cmdline():
                found[int(one.environ()["RANK"])] = one
    return [found[rank] for rank in sorted(found)]


def launcher(below: int) -> psutil.Process:
    return next(
        one for one in psutil.Process(below).children() if "evertune.training.distributed.launcher" in one.cmdline()
    )


def until(condition: Callable[[], Any]) -> Any:
    """Wait for something that is true."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError


def newest(place: Path) -> int:
    """Step of the newest checkpoint that is sealed; 0 where there is none."""
    seals = (place / "run" / "checkpoints").glob("checkpoint-*/evertune-seal.json")
    return max((int(one.parent.name.rpartition("-")[2]) for one in seals), default=0)


@contextlib.contextmanager
def killing(place: Path, victim: Callable[[], psutil.Process]) -> Iterator[None]:
    """Kill a process of the training inside once it has left a checkpoint."""
    before = newest(place)

    def kill() -> None:
        until(lambda: newest(place) > before)
        victim().kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextlib.contextmanager
def training_elsewhere(model: Path, place: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process of its own that trains for long, in two processes."""
    command = [sys.executable, "-c", PROGRAM, str(model), str(place)]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": PYTHONPATH}, stderr=subprocess.PIPE, text=True
    ) as one:
        try:
            yield one
        finally:
            one.kill()
