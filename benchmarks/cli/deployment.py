"""A night with nothing new as a deployment's flow: from the command to its end, on the servers of `evertune up`."""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.command import ROOT, evertune, machine

REPEATS = 5
RECIPE = "configs/support_intents.yaml"
DEPLOYMENT = "retrain/support-intents"
PATIENCE = 300  # seconds until the servers must be ready


def measure() -> dict[str, Any]:
    """Median seconds of runs with nothing new: the flow alone, and with what the worker and a new process take before.

    Raises:
        RuntimeError: the servers do not start, or a run found something to do.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        evertune(home, "run", RECIPE, "--json")
        with _up(home) as (api, environment):
            nights = [_night(api, environment) for _ in range(REPEATS)]
    parts = {part: statistics.median(one[part] for one in nights) for part in nights[0]}
    return {"machine": machine(), "repeats": REPEATS, "parts": parts, "runs": nights}


@contextlib.contextmanager
def _up(home: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """`evertune up` over a home: the API of its Prefect server, and the environment of a second shell."""
    ports = [_free_port(), _free_port()]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    environment = {**kept, "EVERTUNE_HOME": str(home), "PREFECT_HOME": str(home / "prefect"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "evertune", "up", "--port", str(ports[0]), "--mlflow-port", str(ports[1])]
    said = home / "up.txt"
    with said.open("wb") as out:
        up = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        _await_ready(up, said)
        yield f"http://127.0.0.1:{ports[0]}/api", environment
    finally:
        up.send_signal(signal.SIGINT)
        up.wait()


def _await_ready(up: "subprocess.Popen[bytes]", said: Path) -> None:
    for _ in range(PATIENCE):
        if "Ctrl-C stops" in said.read_text():
            return
        if up.poll() is not None:
            break
        time.sleep(1)
    raise RuntimeError(f"evertune up is not ready:\n{said.read_text()[-2000:]}")


def _night(api: str, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of one run by part."""
    command = [sys.executable, "-m", "prefect", "deployment", "run", DEPLOYMENT, "--watch"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    ended = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "START_TIME_DESC", "limit": 1}
    [run] = _asked(f"{api}/flow_runs/filter", ended)
    time.sleep(2)  # the server writes down a run's tasks behind it
    tasks = _asked(f"{api}/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run["id"]]}}})
    names = sorted(task["name"] for task in tasks)
    if done.returncode or names != ["ingest", "validate"]:
        raise RuntimeError(f"expected a run with nothing new, its tasks are {names}:\n{done.stdout}{done.stderr}")
    made, began, end = (datetime.fromisoformat(run[name]) for name in ("created", "start_time", "end_time"))
    return {
        "in the flow": (end - began).total_seconds(),
        "worker and start of the process": (began - made).total_seconds(),
        "from the order to the end": (end - made).total_seconds(),
    }


def _asked(url: str, body: dict[str, Any]) -> Any:
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
