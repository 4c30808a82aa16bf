"""How a step becomes a Prefect task: its cache, its retries, its seconds."""

import functools
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from evertune.errors import EvertuneError
from evertune.home import home_of
from evertune.records import digest

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


def step(key: Callable[..., Any] | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function of the library's records a Prefect task.

    Args:
        key: gives, from the task's arguments by name, the values that decide its result. The result is then kept: the
            same step over the same input is not done again, in this run after a crash or in a later one. Without it the
            step always runs, and is itself safe to repeat.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        name = function.__name__
        options: dict[str, Any] = {"cache_policy": NO_CACHE}
        if key is not None:
            options = {"cache_key_fn": _cache_key(name, key), "persist_result": True}
        options |= {"task_run_name": name, "retries": 2, "retry_delay_seconds": [2, 10]}
        made = task(retry_condition_fn=_passes, **options)(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            start = time.perf_counter()
            try:
                return made(*args, **kwargs)
            finally:
                seconds.get()[name] = round(time.perf_counter() - start, 2)

        return call

    return wrap


def _cache_key(name: str, key: Callable[..., Any]) -> Callable[[Any, dict[str, Any]], str]:
    # The home's identity is part of it: the results of a home that was deleted are not found again.
    return lambda _, arguments: f"{name}-{digest(home_of(arguments['recipe']).identity(), key(**arguments))}"


def _passes(task: Any, run: Any, state: Any) -> bool:
    """Whether an error may pass by itself: the library's own say what a person must do, so they are final."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(error, EvertuneError)
