"""Runs `evertune` commands in forked children of one process that has the heavy imports behind it.

A command in a fresh interpreter spends most of its time on imports: seven seconds of torch, transformers, MLflow and
Great Expectations. A child of this server is a process of its own too: it has its own environment and working folder,
it can be killed, and it ends with a status. Prefect is left out, because it reads its settings when it is imported.

Tests of imports, of the interpreter's flags or of what a fresh process does start one themselves.
"""

import atexit
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.helpers.paths import ROOT

MODULES = (
    "torch",
    "transformers",
    "transformers.trainer",
    "mlflow",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "great_expectations",
    "deltalake",
    "pandas",
    "pyarrow.compute",
    "pyarrow.csv",
    "pyarrow.parquet",
    "sklearn.metrics",
    "evertune.cli",
    "evertune.data.splits.minhash",
    "evertune.report",
    "evertune.training.trainer",
)


class ForkServer:
    """The server, started once; close it at the end."""

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.fork_server"],
            env={**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, environment: Mapping[str, str], folder: Path) -> tuple[int, str, str]:
        """Run Python code in a child; returns its exit status (negative: the signal), its output and its errors."""
        with tempfile.TemporaryDirectory() as scratch:
            outputs = [Path(scratch) / name for name in ("out", "err")]
            job = {
                "code": code,
                "environment": dict(environment),
                "folder": str(folder),
                "outputs": list(map(str, outputs)),
            }
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            assert answer, "the fork server has ended"
            out, err = (path.read_text(encoding="utf-8", errors="replace") for path in outputs)
            return json.loads(answer), out, err

    def close(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.communicate()


def serve() -> None:
    """Import, then answer a job a line until the input ends."""
    from evertune.runtime import helper_process
    from evertune.runtime.environment import prepare_environment

    prepare_environment()
    for name in MODULES:
        importlib.import_module(name)
    # What the validator imports is imported here already: a helper process would only import it again.
    helper_process.start_helper = lambda *_: None  # type: ignore[assignment]
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        job = json.loads(line)
        assert threading.active_count() == 1, threading.enumerate()  # a fork takes one thread along
        child = os.fork()
        if child == 0:
            _run_job(job)
        _, status = os.waitpid(child, 0)
        answers.write(json.dumps(os.waitstatus_to_exitcode(status)) + "\n")
        answers.flush()


def _run_job(job: dict[str, Any]) -> None:
    """Become the command: never returns."""
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    for number, path in enumerate(["/dev/null", *job["outputs"]]):
        descriptor = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit._clear()
    sys.argv = ["-c"]
    status = 0
    try:
        exec(compile(job["code"], "<command>", "exec"), {"__name__": "__main__"})
    except SystemExit as leaving:
        status = _exit_status(leaving.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    with contextlib.suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _exit_status(code: Any) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    sys.stderr.write(f"{code}\n")
    return 1


if __name__ == "__main__":
    serve()
