"""Where row-wise work runs: in this process, or on the Dask cluster whose scheduler `EVERTUNE_DASK` names."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from evertune.errors import ConfigError

if TYPE_CHECKING:
    from prefect_dask import DaskTaskRunner

R = TypeVar("R")
TIMEOUT = 20  # seconds for the scheduler to answer
JOBS_PER_WORKER = 2  # one that runs and one that waits


def find_cluster() -> str | None:
    """Return the address of the Dask scheduler, such as `tcp://10.0.0.7:8786`; None to work in this process."""
    return os.environ.get("EVERTUNE_DASK") or None


def spread_jobs(function: Callable[..., R], jobs: Iterable[Mapping[str, object]]) -> Generator[R, None, None]:
    """Yield `function(**job)` of each job, run as a task on the cluster, in the order of the jobs.

    Only a few jobs are submitted at a time. Dask runs the jobs of a dead worker on another one; each job's result is
    used once, however often it ran.

    Raises:
        ConfigError: no scheduler answers, the cluster has no workers, or `evertune[dask]` is not installed.
    """
    job_task = task(name=function.__name__, task_run_name=function.__name__, cache_policy=NO_CACHE)(function)
    with _open_runner() as runner, contextlib.ExitStack() as stop:
        limit = JOBS_PER_WORKER * len(runner.client.scheduler_info(n_workers=-1)["workers"])
        if not limit:
            raise ConfigError(
                f"EVERTUNE_DASK: the cluster at {find_cluster()} has no workers; start some with `dask worker`"
            )
        running: deque[Any] = deque()
        stop.callback(lambda: runner.client.cancel([future.wrapped_future for future in running]))
        for job in jobs:
            running.append(runner.submit(job_task, job))
            if len(running) >= limit:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@contextlib.contextmanager
def _open_runner() -> "Generator[DaskTaskRunner, None, None]":
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ConfigError(
            "EVERTUNE_DASK is set, but Dask is not installed; install it with `pip install evertune[dask]`"
        ) from error
    with DaskTaskRunner(address=find_cluster(), client_kwargs={"timeout": TIMEOUT}) as runner:
        try:
            runner.client  # noqa: B018 (the first access connects)
        except (OSError, ValueError) as error:
            raise ConfigError(f"EVERTUNE_DASK: no Dask scheduler answers at {find_cluster()}: {error}") from error
        yield runner
