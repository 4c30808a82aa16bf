"""Work in threads: on many items at once, or in several stages, in order and in bounded memory.

Close a generator that is not read to its end: its threads then end after their current item.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from evertune.runtime import malloc

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # finished results that wait for their turn


class Spread(Protocol):
    """Calls a function with each of many jobs, on other machines, and yields the results in the order of the jobs."""

    def __call__(self, function: Callable[..., Result], jobs: Iterable[Mapping[str, object]], /) -> Iterable[Result]:
        """Yield `function(**job)` of each job."""


def map_in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], max_workers: int | None = None
) -> Iterator[Result]:
    """Yield `work` of each item, in order; only a few items and results are held at a time.

    Useful where Arrow, numpy or files do the work, since these let other threads run.

    Args:
        max_workers: items that are worked on at once. Default: the number of cores.
    Raises:
        Exception: whatever the work raises, in place of its result.
    """
    threads = min(os.cpu_count() or 1, max_workers or 1 << 10)
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > threads + AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def iterate_ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """Yield the items; a thread produces each one while the one before it is in use.

    Raises:
        Exception: whatever the iterable raises, in place of its item.
    """
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(1, "ahead") as thread:
        future: Future[Item | object] = thread.submit(next, iterator, end)
        while (item := future.result()) is not end:
            future = thread.submit(next, iterator, end)
            yield item  # type: ignore[misc]


def map_behind(items: Iterable[Item], function: Callable[[Item], Result]) -> Generator[Result, None, None]:
    """Yield `function` of each item, in order; a thread calls it while the next item is produced.

    Raises:
        Exception: whatever the function or the iterable raises.
    """
    with ThreadPoolExecutor(1, "behind") as thread:
        previous: Future[Result] | None = None
        for item in items:
            if previous is not None:
                yield previous.result()
            previous = thread.submit(function, item)
        if previous is not None:
            yield previous.result()


class BackgroundWorker(Generic[Item]):
    """Works on submitted items, one at a time, in another thread; like `map_behind` without an iterable.

    Args:
        work: called with each item.
    """

    def __init__(self, work: Callable[[Item], object]) -> None:
        self.work = work
        self.pool = ThreadPoolExecutor(1)
        self.waiting: deque[Future[object]] = deque()

    def submit_item(self, item: Item) -> None:
        """Queue an item; wait if the one before it has not started yet.

        Raises:
            Exception: what the work raised for an earlier item.
        """
        self.waiting.append(self.pool.submit(self.work, item))
        if len(self.waiting) > 1:
            self.waiting.popleft().result()

    def __enter__(self) -> "BackgroundWorker[Item]":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Wait for the end of the work and raise its error, if any."""
        try:
            while self.waiting and kind is None:
                self.waiting.popleft().result()
        finally:
            self.pool.shutdown(cancel_futures=True)


def release_memory() -> None:
    """Return freed memory to the system, after work that needed much of it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    malloc.trim_memory()
