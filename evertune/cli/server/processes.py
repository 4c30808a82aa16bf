"""Processes that a command starts and stops, with their children; a record finds them after a crash."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import RegistryError
from evertune.runtime.files import read_json, write_json

if TYPE_CHECKING:
    import psutil

START = 120.0  # seconds that a server may take to answer: its first start creates a database
GRACE = 10.0  # seconds that a process may take to end by itself


class Processes:
    """Processes by name, each with its log file.

    Args:
        folder: of the log files.
        record: JSON file that names what runs, for `end_leftovers`.
    """

    def __init__(self, folder: Path, record: Path) -> None:
        self._folder = folder
        self._record = record
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a process in its own session: Ctrl-C reaches this command alone, which stops the others in order."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.log_path(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        write_json(self._record, {name: _identify_process(process.pid) for name, process in self._running.items()})

    def log_path(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._folder / f"{name}.log"

    def wait_ready(self, name: str, url: str) -> None:
        """Wait until the server answers.

        Raises:
            RegistryError: the server ended, or does not answer in time.
        """
        import httpx

        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            self.check_running()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(url, timeout=2).is_success:
                    return
            time.sleep(0.3)
        raise RegistryError(f"{name} did not answer at {url} within {START:.0f} s; see {self.log_path(name)}")

    def check_running(self) -> None:
        """Raise if one of the processes has ended by itself.

        Raises:
            RegistryError: a process ended; the message holds the end of its log.
        """
        for name, process in self._running.items():
            if (status := process.poll()) is not None:
                last = self.log_path(name).read_text(errors="replace").strip().splitlines()[-5:]
                raise RegistryError(
                    "\n".join([f"{name} ended with status {status}; {self.log_path(name)} says:", *last])
                )

    def stop_all(self) -> None:
        """Stop all processes and their children, the youngest first."""
        import psutil

        for process in reversed(self._running.values()):
            if process.poll() is None:
                _end_process(psutil.Process(process.pid))
            process.wait()
        self._running.clear()
        self._record.unlink(missing_ok=True)


def end_leftovers(record: Path) -> list[str]:
    """Stop the processes of a command that was killed before it could stop them, and return their names."""
    import psutil

    ended = []
    for name, identity in reversed((read_json(record) or {}).items()):  # the worker while its server still answers
        with contextlib.suppress(psutil.NoSuchProcess):
            if _identify_process(identity["pid"]) == identity:
                _end_process(psutil.Process(identity["pid"]))
                ended.append(name)
    record.unlink(missing_ok=True)
    return ended


def _identify_process(pid: int) -> dict[str, float]:
    # Process numbers are reused; number and start time together are unique.
    import psutil

    return {"pid": pid, "born": psutil.Process(pid).create_time()}


def _end_process(process: "psutil.Process") -> None:
    """Stop children first and by SIGTERM: a flow run then reports its end to the server and frees its slot."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        children = process.children()
        family = process.children(recursive=True)
        _send_signal(children, signal.SIGTERM)
        _wait_ended(children, GRACE)
        _send_signal([process], signal.SIGINT)
        _send_signal(_wait_ended([process, *family], GRACE), signal.SIGKILL)


def _wait_ended(processes: "Sequence[psutil.Process]", seconds: float) -> "list[psutil.Process]":
    """Wait until all have ended, and return those that have not."""
    deadline = time.monotonic() + seconds
    alive = list(processes)
    while True:
        alive = [process for process in alive if _is_alive(process)]
        if not alive or time.monotonic() >= deadline:
            return alive
        time.sleep(0.05)


def _is_alive(process: "psutil.Process") -> bool:
    # A zombie has ended: psutil's own waiting would wait for its parent to notice.
    import psutil

    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _send_signal(processes: Iterable["psutil.Process"], number: int) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
