"""How a step becomes a Prefect task, with retries and a clock; and one run of a recipe at a time."""

import atexit
import contextlib
import functools
import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.runtime import deployment

from evertune.config import Recipe
from evertune.errors import EvertuneError, RegistryError
from evertune.registry.versions import parity
from evertune.runtime import helper_process
from evertune.runtime.home import home_of

logger = logging.getLogger("evertune.step")  # for people: in the terminal and in Prefect's run log
SOON = 2.0  # seconds that a run waits for another one to end
LATER = 12 * 3600.0  # the same for a scheduled run: longer than a training, else the schedule skips a run
P = ParamSpec("P")
R = TypeVar("R")
step_seconds: ContextVar[dict[str, float]] = ContextVar("seconds")


def prepare_run() -> None:
    """Start a run's clock, and let the library's log messages reach Prefect's run log."""
    step_seconds.set({})
    gc.set_threshold(100_000)  # collecting during large imports took a fifth of their time
    atexit.register(gc.freeze)  # a last collection at the end of a worker took three seconds
    library = logging.getLogger("evertune")
    if library.level == logging.NOTSET:
        library.setLevel(logging.INFO)


@contextlib.contextmanager
def exclusive_run(recipe: Recipe) -> Iterator[None]:
    """Hold the recipe's run lock, so that it has one run at a time.

    A deployment's run waits for the one in progress; a run by hand fails after seconds.

    Raises:
        RegistryError: another run was in progress for all that time.
    """
    home = home_of(recipe)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(home.lock("run", timeout=SOON, noted=True))
        except RegistryError as error:
            if deployment.id is None:
                raise
            logger.info("%s; this run starts after it", error)
            stack.enter_context(home.lock("run", timeout=LATER, noted=True))
        stack.callback(parity.dismiss_prepared)
        stack.callback(helper_process.end_processes)
        yield


def step(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function over the library's records a Prefect task.

    Prefect caches no results: each step is safe to repeat and reuses its own files, and only the step notices when
    those are missing or damaged.
    """
    name = function.__name__
    options: dict[str, Any] = {"cache_policy": NO_CACHE, "task_run_name": name, "retries": 2}
    prefect_task = task(retry_condition_fn=_is_transient, retry_delay_seconds=[2, 10], **options)(function)

    @functools.wraps(function)
    def run_step(*args: P.args, **kwargs: P.kwargs) -> R:
        start = time.perf_counter()
        try:
            return prefect_task(*args, **kwargs)
        finally:
            step_seconds.get()[name] = round(time.perf_counter() - start, 2)

    return run_step


def _is_transient(task: Task[..., object], run: TaskRun, state: State[object]) -> bool:
    """Return whether a retry may help. The library's own errors ask a person to act, so they are final."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(error, EvertuneError)
