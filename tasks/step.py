"""How a step becomes a Prefect task: its retries, its seconds."""

import functools
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from evertune.errors import EvertuneError

said = logging.getLogger("evertune.step")  # what a person follows, in the terminal and in Prefect's run log
P = ParamSpec("P")
R = TypeVar("R")
seconds: ContextVar[dict[str, float]] = ContextVar("seconds")


def begin() -> None:
    """Start a run's clock, and let what the library tells a person reach Prefect's run log."""
    seconds.set({})
    library = logging.getLogger("evertune")
    if library.level == logging.NOTSET:
        library.setLevel(logging.INFO)


def step(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function of the library's records a Prefect task.

    The step is itself safe to repeat, and does no work twice: a result that Prefect kept would not notice that the
    files behind it are gone or damaged.
    """
    name = function.__name__
    options: dict[str, Any] = {"cache_policy": NO_CACHE, "task_run_name": name, "retries": 2}
    made = task(retry_condition_fn=_passes, retry_delay_seconds=[2, 10], **options)(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        start = time.perf_counter()
        try:
            return made(*args, **kwargs)
        finally:
            seconds.get()[name] = round(time.perf_counter() - start, 2)

    return call


def _passes(task: Any, run: Any, state: Any) -> bool:
    """Whether an error may pass by itself: the library's own say what a person must do, so they are final."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(error, EvertuneError)
