"""Memory that work frees and takes again with every batch stays with the process while the work lasts."""

import contextlib
import ctypes
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4  # of `mallopt(3)`
KEEPING = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 * 2**20}
# Not glibc's first thresholds but those that they grow to: once one is set by hand, none grows by itself any more.
USUAL = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20, TOP_PAD: 128 * 2**10}

_lock = threading.Lock()
_keepers = 0


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """glibc gives no large block back while this lasts: fresh pages cost a page fault each, 10% of a training step.

    It may be entered again, from other threads too; the memory goes back when the last has left.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def trim() -> None:
    """What this process has freed and glibc still holds goes back to the system, unless someone keeps it."""
    with _lock:
        if not _keepers:
            _malloc()[1](0)


def _count(change: int) -> None:
    global _keepers
    with _lock:
        before, _keepers = _keepers, _keepers + change
        if not before:
            _set(KEEPING)
        elif not _keepers:
            _set(USUAL)
            _malloc()[1](0)


def _set(options: Mapping[int, int]) -> None:
    for option, value in options.items():
        _malloc()[0](option, value)


@functools.cache
def _malloc() -> tuple[Callable[[int, int], int], Callable[[int], int]]:
    """`mallopt` and `malloc_trim`, or what does nothing where the C library lacks them."""
    try:
        library = ctypes.CDLL(None)
        return library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):
        logger.debug("this C library has no mallopt; the work goes on without it")
        return (lambda option, value: 0), (lambda pad: 0)
