"""Keep freed memory in the process while work lasts that frees and allocates it again with every batch."""

import contextlib
import ctypes
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)
TRIM_THRESHOLD = -1  # of `mallopt(3)`
TOP_PAD = -2
MMAP_THRESHOLD = -3
MMAP_MAX = -4
KEEPING = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 * 2**20}
# Not glibc's initial thresholds but the ones they grow to: once one is set by hand, none grows by itself.
USUAL = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20, TOP_PAD: 128 * 2**10}

_lock = threading.Lock()
_keepers = 0


@contextlib.contextmanager
def keep_memory() -> Iterator[None]:
    """Let glibc return no large block while this lasts: fresh pages cost a page fault each, 10% of a training step.

    It may be nested, from other threads too; the memory is returned when the last block ends.
    """
    _count_keepers(1)
    try:
        yield
    finally:
        _count_keepers(-1)


def trim_memory() -> None:
    """Return memory that this process has freed to the system, unless `keep_memory` is active."""
    with _lock:
        if not _keepers:
            _load_malloc()[1](0)


def _count_keepers(change: int) -> None:
    global _keepers
    with _lock:
        before = _keepers
        _keepers = _keepers + change
        if not before:
            _set_options(KEEPING)
        elif not _keepers:
            _set_options(USUAL)
            _load_malloc()[1](0)


def _set_options(options: Mapping[int, int]) -> None:
    for option, value in options.items():
        _load_malloc()[0](option, value)


@functools.cache
def _load_malloc() -> tuple[Callable[[int, int], int], Callable[[int], int]]:
    """Return `mallopt` and `malloc_trim`, or functions that do nothing if the C library lacks them."""
    try:
        library = ctypes.CDLL(None)
        return library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):
        logger.debug("this C library has no mallopt; the work goes on without it")
        return (lambda option, value: 0), (lambda pad: 0)
