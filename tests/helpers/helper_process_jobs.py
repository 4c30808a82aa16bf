"""What the tests of work in another process have it do; imported there too."""

import os
import signal
import sys
import time
from pathlib import Path

from evertune.errors import ConfigError


def where(*names: str) -> tuple[int, list[bool]]:
    """This process, and which modules it has imported."""
    return os.getpid(), [name in sys.modules for name in names]


def size(count: int) -> bytes:
    return b"x" * count


def touch(path: Path) -> None:
    path.touch()


def wrong(kind: str) -> None:
    if kind == "config":
        raise ConfigError(["data.sources: none", "name: missing"], "recipe.yaml")
    raise OwnError(1, 2)


class OwnError(Exception):
    """Cannot be unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def killed_but_in(process: int) -> int:
    """Dies of a signal in any process but this."""
    if os.getpid() != process:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def endless(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(600)
