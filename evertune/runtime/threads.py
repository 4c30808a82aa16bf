"""Work in threads: the same on many items, or several stages at once, in order and in bounded memory.

Close a generator that is not wanted to its end: its threads end then, after the item that they are at.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from evertune.runtime import malloc

Item = TypeVar("Item")
Result = TypeVar("Result")

Spread = Callable[[Callable[..., Any], Iterable[dict[str, Any]]], Iterable[Any]]  # calls a function with each of many
# jobs on other machines, and gives the results in their order

AHEAD = 2  # results that wait for their turn


def map_in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], max_workers: int | None = None
) -> Iterator[Result]:
    """What `work` makes of each item, in their order; only a few items and results are held at a time.

    Worth it where the work is Arrow's, numpy's or a file's: these let other threads run meanwhile.

    Args:
        most: items that are worked on at once. Default: as many as there are cores.
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
    """The items, each made by a thread while the one before it is in use; an error comes in its place."""
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(1, "ahead") as thread:
        future: Future[Item | object] = thread.submit(next, iterator, end)
        while (item := future.result()) is not end:
            future = thread.submit(next, iterator, end)
            yield item  # type: ignore[misc]


def map_behind(items: Iterable[Item], function: Callable[[Item], Result]) -> Generator[Result, None, None]:
    """`function` of each item, in order, in a thread that works while the next item is made; an error ends both."""
    with ThreadPoolExecutor(1, "behind") as thread:
        previous: Future[Result] | None = None
        for item in items:
            if previous is not None:
                yield previous.result()
            previous = thread.submit(function, item)
        if previous is not None:
            yield previous.result()


class BackgroundWorker:
    """As `behind`, for one who is handed the items: each is worked on in another thread while the next is made."""

    def __init__(self, work: Callable[[Any], object]) -> None:
        self.work = work
        self.pool = ThreadPoolExecutor(1)
        self.waiting: deque[Future[object]] = deque()

    def submit_item(self, item: Any) -> None:
        """Work on an item as soon as the one before it is done; waits while that one waits itself."""
        self.waiting.append(self.pool.submit(self.work, item))
        if len(self.waiting) > 1:
            self.waiting.popleft().result()

    def __enter__(self) -> "BackgroundWorker":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Wait for the end of the work; what went wrong in it is raised."""
        try:
            while self.waiting and kind is None:
                self.waiting.popleft().result()
        finally:
            self.pool.shutdown(cancel_futures=True)


def release_memory() -> None:
    """Memory that was used and is free goes back to the system, at the end of work that took much of it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    malloc.trim_memory()
