"""The same work on many items, in as many threads as the machine has cores."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
