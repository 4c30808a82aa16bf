"""How a process speaks with the one that started it: one JSON object a line, on standard output."""

import json
import logging
import os
import select
import threading
from collections.abc import Callable
from io import TextIOBase
from typing import Any, Self

Tell = Callable[..., None]
LOOK = 1.0  # seconds between two looks at who started this process


def make_sender(descriptor: int) -> Tell:
    """What sends its keyword arguments as one message."""
    return lambda **message: (os.write(descriptor, json.dumps(message).encode() + b"\n"), None)[1]


def reserve_stdout() -> Tell:
    """Standard output for messages alone: what else is printed goes to standard error."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return make_sender(descriptor)


def watch_parent(stdin: bool) -> None:
    """End this process as soon as the one that started it is gone, however that ended: no orphan works on.

    Args:
        stdin: also when standard input ends, which the one that wants the work holds open.
    """
    parent = os.getppid()

    def wait_for_end() -> None:
        while os.getppid() == parent and not select.select([0] if stdin else [], [], [], LOOK)[0]:
            pass
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()


class LogSender(logging.Handler):
    """Sends log records."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._tell(log=[record.name, record.levelno, record.getMessage()])


class Screen(TextIOBase):
    """A standard error that is the one of the process that started the training: there the bar is seen."""

    def __init__(self, tell: Tell, terminal: bool) -> None:
        self._tell = tell
        self._terminal = terminal

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return self._terminal

    def write(self, text: str) -> int:
        """Send text."""
        self._tell(screen=text)
        return len(text)


class Order:
    """What a process is told to do; a subclass is a dataclass of fields that pydantic can write as JSON."""

    def to_json(self) -> str:
        """Return the order as JSON."""
        return str(self._adapter().dump_json(self).decode())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the order that `to_json` wrote."""
        order: Self = cls._adapter().validate_json(text)
        return order

    @classmethod
    def _adapter(cls) -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(cls)
