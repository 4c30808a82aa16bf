"""How many jobs may compute on this host at a time: a model that trains, or scores many rows, holds a slot."""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import ConfigError
from evertune.runtime.home import note_holder, read_holder

if TYPE_CHECKING:
    from filelock import BaseFileLock

logger = logging.getLogger(__name__)
SETTING = "EVERTUNE_JOBS"  # environment variable
POLL_SECONDS = 1.0  # between two checks for a free slot


@contextlib.contextmanager
def hold_slot(recipe: str) -> Iterator[None]:
    """Hold a job slot of this host while the block runs; wait for one if all are taken.

    A host with a GPU has one slot, a host without has no limit; EVERTUNE_JOBS sets another number, 0 for no limit. A
    slot is a locked file: it is free as soon as its holder's process has ended, however that happened.

    Args:
        recipe: name that is shown to others who wait.
    Raises:
        ConfigError: EVERTUNE_JOBS is not a number, or the folder for temporary files is not writable.
    """
    slot_count = count_slots()
    with _take_slot(slot_count, recipe) if slot_count else contextlib.nullcontext():
        yield


def count_slots() -> int:
    """Return how many jobs may compute at a time; 0 for no limit.

    Raises:
        ConfigError: EVERTUNE_JOBS is not a number.
    """
    setting = os.environ.get(SETTING)
    if not setting:
        import torch

        return int(torch.cuda.is_available())
    if not setting.isdecimal():
        raise ConfigError(
            f"{SETTING}={setting}: set it to the number of jobs that may compute on this host, 0 for no limit"
        )
    return int(setting)


@contextlib.contextmanager
def _take_slot(count: int, recipe: str) -> Iterator[None]:
    files = _list_slot_files(count)
    last_holders = ""
    while (lock := _lock_free_slot(files)) is None:
        holders = "; ".join(read_holder(file) or "a process that has just started" for file in files)
        if holders != last_holders:
            last_holders = holders
            logger.info("jobs at a time on this host: %d (%s); %s waits for %s", count, SETTING, recipe, holders)
        time.sleep(POLL_SECONDS)
    try:
        note_holder(Path(lock.lock_file), recipe)
        yield
    finally:
        lock.release()


def _lock_free_slot(files: list[Path]) -> "BaseFileLock | None":
    """Take the first free slot and return its lock; None if all are taken."""
    import filelock

    for file in files:
        lock = filelock.FileLock(file, timeout=0, mode=0o666)
        with contextlib.suppress(filelock.Timeout):
            lock.acquire()
            return lock
    return None


def _list_slot_files(count: int) -> list[Path]:
    """Return the files of the slots, which all users of the host can lock."""
    folder = Path(tempfile.gettempdir()) / "evertune-jobs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):  # another user made it, and opened it to all
            folder.chmod(0o777)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; set TMPDIR to a folder that is writable") from error
    return [folder / f"{number}.lock" for number in range(1, count + 1)]
