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

from benchmarks.command import ROOT, describe_machine, run_evertune

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
        run_evertune(home, "run", RECIPE, "--json")
        with _run_servers(home) as (api, environment):
            runs = [_run_deployment(api, environment) for _ in range(REPEATS)]
    parts = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
    return {"machine": describe_machine(), "repeats": REPEATS, "parts": parts, "runs": runs}


@contextlib.contextmanager
def _run_servers(home: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """`evertune up` over a home: the API of its Prefect server, and the environment of a second shell."""
    ports = [_free_port(), _free_port()]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    environment = {
        **inherited,
        "EVERTUNE_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "evertune", "up", "--port", str(ports[0]), "--mlflow-port", str(ports[1])]
    output_path = home / "up.txt"
    with output_path.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        _await_ready(process, output_path)
        yield f"http://127.0.0.1:{ports[0]}/api", environment
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", output_path: Path) -> None:
    for _ in range(PATIENCE):
        if "Ctrl-C stops" in output_path.read_text():
            return
        if process.poll() is not None:
            break
        time.sleep(1)
    raise RuntimeError(f"evertune up is not ready:\n{output_path.read_text()[-2000:]}")


def _run_deployment(api: str, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of one run by part."""
    command = [sys.executable, "-m", "prefect", "deployment", "run", DEPLOYMENT, "--watch"]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    ended = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "START_TIME_DESC", "limit": 1}
    [run] = _post_json(f"{api}/flow_runs/filter", ended)
    time.sleep(2)  # the server writes down a run's tasks behind it
    tasks = _post_json(f"{api}/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run["id"]]}}})
    names = sorted(task["name"] for task in tasks)
    if process.returncode or names != ["ingest", "validate"]:
        raise RuntimeError(f"expected a run with nothing new, its tasks are {names}:\n{process.stdout}{process.stderr}")
    created, started, end = (datetime.fromisoformat(run[name]) for name in ("created", "start_time", "end_time"))
    return {
        "in the flow": (end - started).total_seconds(),
        "worker and start of the process": (started - created).total_seconds(),
        "from the order to the end": (end - created).total_seconds(),
    }


def _post_json(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
