"""How many jobs may compute on this host at a time: a model that learns, or answers many rows, holds a place."""

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
PLACES = "EVERTUNE_JOBS"
LOOK = 1.0  # seconds between two looks for a place that has become free


@contextlib.contextmanager
def hold_slot(recipe: str) -> Iterator[None]:
    """Hold a place of this host while the block runs, after a wait where all are taken.

    A host with a GPU has one place, one without has no limit; EVERTUNE_JOBS gives another number, 0 no limit. A place
    is a locked file: it is free as soon as its holder's process is gone, however that ended.

    Args:
        recipe: name that others are told of.
    Raises:
        ConfigError: EVERTUNE_JOBS is no number, or nothing can be written to the folder for temporary files.
    """
    slot_count = count_slots()
    with _take_slot(slot_count, recipe) if slot_count else contextlib.nullcontext():
        yield


def count_slots() -> int:
    """How many jobs may compute at a time; 0 means any number.

    Raises:
        ConfigError: EVERTUNE_JOBS is no number.
    """
    setting = os.environ.get(PLACES)
    if not setting:
        import torch

        return int(torch.cuda.is_available())
    if not setting.isdecimal():
        raise ConfigError(f"{PLACES}={setting}: give the number of jobs that may compute on this host, 0 for no limit")
    return int(setting)


@contextlib.contextmanager
def _take_slot(count: int, recipe: str) -> Iterator[None]:
    files = _list_slot_files(count)
    last_holders = ""
    while (lock := _lock_free_slot(files)) is None:
        if (
            holders := "; ".join(read_holder(file) or "a process that has just begun" for file in files)
        ) != last_holders:
            last_holders = holders
            logger.info("jobs at a time on this host: %d (%s); %s waits for %s", count, PLACES, recipe, holders)
        time.sleep(LOOK)
    try:
        note_holder(Path(lock.lock_file), recipe)
        yield
    finally:
        lock.release()


def _lock_free_slot(files: list[Path]) -> "BaseFileLock | None":
    """The first place that nobody holds, held now; None where all are taken."""
    import filelock

    for file in files:
        lock = filelock.FileLock(file, timeout=0, mode=0o666)
        with contextlib.suppress(filelock.Timeout):
            lock.acquire()
            return lock
    return None


def _list_slot_files(count: int) -> list[Path]:
    """The places' files, which all users of the host can lock."""
    folder = Path(tempfile.gettempdir()) / "evertune-jobs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):  # another user's: open to all since it was made
            folder.chmod(0o777)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; name another folder for this host's jobs in TMPDIR") from error
    return [folder / f"{number}.lock" for number in range(1, count + 1)]
