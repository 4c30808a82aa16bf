"""Runs `evertune` commands in forked children of one process that has the heavy imports behind it.

A command in a fresh interpreter spends most of its time on imports: seven seconds of torch, transformers, MLflow and
Great Expectations. A child of this server is a process of its own too: it has its own environment and working folder,
it can be killed, and it ends with a status.

Prefect reads its settings when it is imported. A branch of the server imports it for each set of its variables, and
forks the commands that have these variables; the others are forked where Prefect is not imported yet. The parity
check's process is forked too (see `parity_server`), and the collector leaves alone what was there before the fork.

Tests of imports, of the interpreter's flags or of what a fresh process does start one themselves.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.helpers import parity_server
from tests.helpers.paths import PYTHONPATH

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
    "evertune.registry.versions.parity",
    "git",  # MLflow asks it for the commit, and its import asks for its version
    "graphviz",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.tracing.provider",
    "opentelemetry.sdk.trace",
)
PREFECT_MODULES = ("flows.retrain", "flows.score", "flows.monitor", "prefect.concurrency.sync", "prefect.telemetry")
PREFECT_SETTINGS = {  # what `quiet_prefect` sets before it imports Prefect
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "evertune",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60",
}


class ForkServer:
    """The server, started once; close it at the end.

    Args:
        parity_socket: where the parity checks of the commands have their processes forked.
    """

    def __init__(self, parity_socket: str) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.fork_server", parity_socket],
            env={**environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, code: str, environment: Mapping[str, str], folder: Path, with_prefect: bool = False
    ) -> tuple[int, str, str]:
        """Run Python code in a child; returns its exit status (negative: the signal), its output and its errors.

        Args:
            with_prefect: fork it where Prefect is imported with the settings of this environment.
        """
        with tempfile.TemporaryDirectory() as scratch:
            outputs = [Path(scratch) / name for name in ("out", "err")]
            job = {
                "code": code,
                "environment": dict(environment),
                "folder": str(folder),
                "outputs": list(map(str, outputs)),
                "with_prefect": with_prefect,
            }
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            assert answer, "the fork server has ended"
            out, err = (path.read_text(encoding="utf-8", errors="replace") for path in outputs)
            return json.loads(answer), out, err

    def close(self) -> None:
        """End the server, and with its input its branches."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Branch:
    """A child of the server that forks commands itself, with Prefect behind it."""

    jobs: TextIO
    answers: TextIO
    pid: int

    def run(self, line: str) -> int:
        self.jobs.write(line)
        self.jobs.flush()
        answer = self.answers.readline()
        assert answer, "a branch of the fork server has ended"
        status: int = json.loads(answer)
        return status

    def close(self) -> None:
        self.jobs.close()
        os.waitpid(self.pid, 0)


@dataclass
class Branches:
    """Those that were needed so far, by Prefect's variables in the environment."""

    _by_settings: dict[tuple[tuple[str, str], ...], Branch] = field(default_factory=dict)

    def find(self, job: dict[str, Any]) -> Branch:
        settings = {name: value for name, value in job["environment"].items() if name.startswith("PREFECT_")}
        key = tuple(sorted(settings.items()))
        if key not in self._by_settings:
            self._by_settings[key] = self._fork(settings)
        return self._by_settings[key]

    def close(self) -> None:
        for branch in self._by_settings.values():
            branch.close()

    def _fork(self, settings: dict[str, str]) -> Branch:
        job_reader, job_writer = os.pipe()
        answer_reader, answer_writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            for branch in self._by_settings.values():  # else they would not see that the server has ended
                branch.jobs.close()
            os.close(job_writer)
            os.close(answer_reader)
            os.environ.update({**PREFECT_SETTINGS, **settings})
            import_and_freeze(PREFECT_MODULES)
            with os.fdopen(job_reader) as jobs, os.fdopen(answer_writer, "w") as answers:
                for line in jobs:
                    answer_job(json.loads(line), answers)
            os._exit(0)
        os.close(job_reader)
        os.close(answer_writer)
        return Branch(os.fdopen(job_writer, "w"), os.fdopen(answer_reader), pid)


def serve(parity_socket: str) -> None:
    """Import, then answer a job a line until the input ends."""
    from evertune.runtime import helper_process
    from evertune.runtime.environment import prepare_environment

    prepare_environment()
    import_and_freeze(MODULES)
    # What the validator imports is imported here already: a helper process would only import it again.
    helper_process.start_helper = lambda *_: None  # type: ignore[assignment]
    parity_server.fork_checks(lambda: parity_socket)
    branches = Branches()
    with os.fdopen(os.dup(1), "w") as answers:
        for line in sys.stdin:
            job = json.loads(line)
            if job["with_prefect"]:
                answers.write(json.dumps(branches.find(job).run(line)) + "\n")
                answers.flush()
            else:
                answer_job(job, answers)
    branches.close()


def import_and_freeze(modules: Iterable[str]) -> None:
    """Import; the collections of the children do not look through all that."""
    gc.disable()
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.enable()


def answer_job(job: dict[str, Any], answers: TextIO) -> None:
    """Fork a child that becomes the command, and write how it ended."""
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
    serve(sys.argv[1])
