"""Servers of the tests' own: started on a free port, waited for, and ended with all that they started."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def serving(command: Sequence[str], health: str, folder: Path, **environment: str) -> Iterator[None]:
    """Run a server while the block runs; it is up when `health` answers. Its log is `folder/log`."""
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not _healthy(health):
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.5)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
