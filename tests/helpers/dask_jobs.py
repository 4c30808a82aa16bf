"""Jobs for the workers of a Dask cluster, which import them by this module's name."""

import os
import signal
from pathlib import Path
from typing import Any

from evertune.data.contract.chunk import Chunk, ChunkResult, check_chunk_remotely
from evertune.errors import DataError


def deadly(number: int, folder: Path) -> int:
    """The number; the first process that does job 3 is killed in the middle of it."""
    with (folder / "begun").open("a") as file:
        file.write(f"{number}\n")
    if number == 3:
        _die_once(folder)
    return number


def judged(pickled_checker: bytes, chunk: Chunk, finish: Any, folder: Path) -> ChunkResult:
    """Check a chunk as `check_chunk_remotely` does; the first process that has the third chunk is killed over it."""
    said = check_chunk_remotely(pickled_checker, chunk, finish)
    if chunk.start == 40:
        _die_once(folder)
    return said


def _die_once(folder: Path) -> None:
    if not (folder / "killed").exists():
        (folder / "killed").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)


def broken(number: int) -> int:
    """Fail."""
    raise DataError(f"job {number} cannot be done")
