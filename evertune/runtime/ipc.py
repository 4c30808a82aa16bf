"""Messages from a process to the one that started it: one JSON object a line, on standard output."""

import json
import logging
import os
import select
import threading
from collections.abc import Callable
from io import TextIOBase
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Tell = Callable[..., None]
POLL_SECONDS = 1.0  # between two checks for the parent process


def make_sender(descriptor: int) -> Tell:
    """Return a function that sends its keyword arguments as one message."""

    def send(**message: object) -> None:
        os.write(descriptor, json.dumps(message).encode() + b"\n")

    return send


def reserve_stdout() -> Tell:
    """Keep standard output for messages and return their sender; anything printed goes to standard error."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return make_sender(descriptor)


def watch_parent(stdin: bool) -> None:
    """End this process as soon as its parent has ended, however that happened, so that no orphan goes on working.

    Args:
        stdin: end also when standard input ends, which the parent holds open.
    """
    parent = os.getppid()

    def wait_for_end() -> None:
        while os.getppid() == parent and not select.select([0] if stdin else [], [], [], POLL_SECONDS)[0]:
            pass
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()


class LogSender(logging.Handler):
    """Sends log records as messages."""

    def __init__(self, send: Tell) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record."""
        self._send(log=[record.name, record.levelno, record.getMessage()])


class Screen(TextIOBase):
    """A standard error that sends what is written to the parent process, where the progress bar is shown."""

    def __init__(self, send: Tell, terminal: bool) -> None:
        self._send = send
        self._terminal = terminal

    def isatty(self) -> bool:
        """Return whether the parent's standard error is a terminal."""
        return self._terminal

    def write(self, text: str) -> int:
        """Tell text."""
        self._send(screen=text)
        return len(text)


class Order:
    """What a process is told to do; a subclass is a dataclass of fields that pydantic can write as JSON."""

    def to_json(self) -> str:
        """Return the order as JSON."""
        return self._adapter().dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the order that `to_json` wrote."""
        return cls._adapter().validate_json(text)

    @classmethod
    def _adapter(cls) -> "TypeAdapter[Self]":
        from pydantic import TypeAdapter

        return TypeAdapter(cls)
