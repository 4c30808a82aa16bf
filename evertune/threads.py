"""Work of several stages at once, in order and in bounded memory: one item at a time in each.

Close what these give when it is not wanted to its end: its thread ends then, after the item that it is at.
"""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """The items, each made by a thread while the one before it is in use; an error comes in its place."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming: Future[T | object] = thread.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, iterator, end)
            yield item  # type: ignore[misc]


def behind(items: Iterable[T], function: Callable[[T], R]) -> Generator[R, None, None]:
    """`function` of each item, in order, in a thread that works while the next item is made; an error ends both."""
    with ThreadPoolExecutor(1, "behind") as thread:
        before: Future[R] | None = None
        for item in items:
            if before is not None:
                yield before.result()
            before = thread.submit(function, item)
        if before is not None:
            yield before.result()
