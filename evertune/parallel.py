"""The same work on many items, in as many threads as the machine has cores."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # results that wait for their turn


def mapped(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `work` makes of each item, in their order; only a few items and results are held at a time.

    Worth it where the work is Arrow's, numpy's or a file's: these let other threads run meanwhile.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > (os.cpu_count() or 1) + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; each is made ready in another thread while the one before it is worked on."""
    rest = iter(items)

    def following() -> tuple[Item, ...]:
        return tuple(itertools.islice(rest, 1))

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(following)
        while item := waiting.result():
            waiting = pool.submit(following)
            yield item[0]


class Behind:
    """Work that goes on in another thread, on one item after the other, while the next is made ready."""

    def __init__(self, work: Callable[[Any], object]) -> None:
        self.work, self.pool = work, ThreadPoolExecutor(1)
        self.waiting: deque[Future[object]] = deque()

    def take(self, item: Any) -> None:
        """Work on an item as soon as the one before it is done; waits while that one waits itself."""
        self.waiting.append(self.pool.submit(self.work, item))
        if len(self.waiting) > 1:
            self.waiting.popleft().result()

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Wait for the end of the work; what went wrong in it is raised."""
        try:
            while self.waiting and kind is None:
                self.waiting.popleft().result()
        finally:
            self.pool.shutdown(cancel_futures=True)


def give_back() -> None:
    """Memory that was used and is free goes back to the system, at the end of work that took much of it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
