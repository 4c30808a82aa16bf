"""Runs the command line as a user does, in a home of its own, and times it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class NotHereError(Exception):
    """This machine cannot measure it."""


def run_evertune(home: Path, *arguments: str, server: str | None = None) -> dict[str, Any]:
    """Run `evertune ARGUMENTS` and return its JSON, if it prints any, with the wall time as `wall`.

    Args:
        server: a Prefect server's API; a temporary one is started where there is none.
    Raises:
        RuntimeError: it did not end with status 0.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment = {
        **inherited,
        **({"PREFECT_API_URL": server} if server else {}),
        "EVERTUNE_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "HF_HUB_OFFLINE": "1",
    }
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "evertune", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    wall = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"evertune {' '.join(arguments)} ended with {process.returncode}:\n{process.stderr[-2000:]}")
    printed = json.loads(process.stdout) if "--json" in arguments else {}
    return {**printed, "wall": wall} if isinstance(printed, dict) else {"wall": wall}


@contextlib.contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """The API of a Prefect server of its own, ready.

    Raises:
        RuntimeError: it does not start within a minute.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _await_server(f"{url}/health")
        yield url
    finally:
        server.terminate()
        server.wait()


def _await_server(url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")


def describe_machine() -> dict[str, Any]:
    """What the numbers were measured on, and at which revision of the code; names no host."""
    import platform

    import torch

    from evertune.registry.tracking.runs import find_code_revision

    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "revision": find_code_revision(),
    }
