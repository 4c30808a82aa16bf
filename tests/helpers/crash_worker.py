"""Runs the retrain flow again and again, each time in a forked child that is killed where it is told to be.

A process of its own, and of one thread until it forks: the imports are paid once. It reads a job a line and answers
with some. What a child changes on the disk and in MLflow's database is counted, step by step; each such moment is a
point at which it can be killed.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

HEAVY = (
    "great_expectations",
    "deltalake",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "transformers.trainer",
    "evertune.data.splits.minhash",
    "evertune.training.trainer",
    "evertune.report",
    "flows.retrain",
)
STEPS = ("ingest", "validate", "tokenize", "finetune", "evaluate", "promote", "conclude")
ON_DISK = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Points:
    """Counts the moments of each step, and kills the process at one of them.

    Args:
        kill: `step`, `number` of the moment in it, `torn`: whether a file that is opened for writing is left begun.
        answer: descriptor on which the last word is written.
    """

    def __init__(self, home: str, kill: dict[str, Any] | None, answer: int) -> None:
        self.home = home
        self.kill = kill
        self.answer = answer
        self.step = "start"
        self.counts = Counter[str]()
        self._lock = threading.Lock()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What the interpreter tells of every call to the system; only the home's files count."""
        if event not in ON_DISK or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(arguments[0])
        flags = arguments[2] if event == "open" else 0
        if path.startswith(self.home) and not path.endswith(".lock") and changes(event, path, flags):
            self.pass_(event, path, flags)

    def pass_(self, event: str, what: str, flags: int = 0) -> None:
        """A moment goes by, or is the last."""
        if not self._lock.acquire(blocking=False):
            return  # what this very process does below, or another thread at the same moment
        try:
            self.counts[self.step] += 1
            if self.kill and (self.kill["step"], self.kill["number"]) == (self.step, self.counts[self.step]):
                torn = bool(self.kill["torn"] and flags & WRITING and tear(what, flags))
                where = f"{event} {what.removeprefix(self.home)}{' (begun)' if torn else ''}"
                say(self.answer, killed=f"{self.step} {self.kill['number']}: {where}")
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            self._lock.release()


def changes(event: str, path: str, flags: int) -> bool:
    """Whether the call will leave the disk as it is not now."""
    if event == "open":
        return bool(flags & WRITING)
    if event == "os.mkdir":
        return not os.path.isdir(path)  # noqa: PTH112 (called for every file: the quickest way)
    return os.path.lexists(path)


def tear(path: str, flags: int) -> bool:
    """Leave the file as a process does that is killed after it opened it, or in the middle of an appended line."""
    try:
        descriptor = os.open(path, flags & ~os.O_EXCL, 0o644)
    except OSError:
        return False
    if flags & os.O_APPEND:
        os.write(descriptor, b'{"time": "20')
    return True


def say(descriptor: int, **message: Any) -> None:
    os.write(descriptor, json.dumps(message, default=str).encode() + b"\n")


def main() -> None:
    """Fork a child for each job: `recipe`, `home`, `kill`, `log`."""
    answers = os.dup(1)
    os.dup2(2, 1)
    for name in HEAVY:
        importlib.import_module(name)
    say(answers, ready=threading.active_count())
    for line in sys.stdin:
        job = json.loads(line)
        for name in job.get("modules", []):
            with contextlib.suppress(ImportError):  # some are there only once another one is in use
                importlib.import_module(name)
        gc.collect()
        gc.freeze()  # each training collects, and would look through all that was imported
        if (child := os.fork()) == 0:
            live(job, answers)
        _, status = os.waitpid(child, 0)
        say(answers, signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)


def live(job: dict[str, Any], answers: int) -> None:
    """A child's life: the flow, without Prefect around its steps; it ends by itself or is killed."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["EVERTUNE_HOME"] = job["home"]
    points = Points(job["home"], job["kill"], answers)
    try:
        outcome = run(job, points)
        modules = [name for name in sys.modules if not name.startswith(("__", "evertune_bundle"))]
        say(answers, outcome=outcome, counts=dict(points.counts), modules=modules)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        say(answers, error=f"{type(error).__name__}: {error}")
    os._exit(0)


def run(job: dict[str, Any], points: Points) -> Any:
    """The flow, where every write and every step is a point."""
    from evertune.config import load_recipe
    from evertune.records import to_plain
    from evertune.registry.tracking import runs as tracking
    from evertune.runtime import helper_process as beside
    from flows import retrain as flow
    from tasks import conclude, evaluate, promote, validate

    watch_writes(points)
    tracking.SOON = 3600  # metrics are sent at the step's end: the same moments in each run
    if not job["processes"]:  # else as many processes as on a night
        beside.start_helper = lambda *_: None  # what it would do is done in this process then
        answer_here()
    for module in (validate, evaluate, promote, conclude):
        for name in [one for one in vars(module) if one.startswith("show_")]:
            setattr(module, name, lambda *_: None)
    for name in STEPS:
        setattr(flow, name, bounded(name, getattr(flow, name).__wrapped__, points))
    sys.addaudithook(points.audit)
    outcome = flow.retrain.fn(load_recipe(job["recipe"]))
    points.step = "end"
    return to_plain(outcome)


def bounded(name: str, step: Any, points: Points) -> Any:
    """A step with a point before and after it."""

    def both(*arguments: Any) -> Any:
        points.step = name
        points.pass_("begin", name)
        made = step(*arguments)
        points.step = f"after {name}"
        points.pass_("end", name)
        return made

    return both


def watch_writes(points: Points) -> None:
    """What the interpreter tells nothing of: SQL, and the files of libraries that are not written in Python."""
    import pyarrow.parquet
    from deltalake import DeltaTable
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            points.pass_("sql", " ".join(statement.split()[:3]))

    event.listen(Engine, "before_cursor_execute", execute)
    event.listen(Engine, "commit", lambda _: points.pass_("sql", "COMMIT"))
    for owner, name in (
        (DeltaTable, "create_write_transaction"),
        (pyarrow.parquet.ParquetWriter, "write_table"),
        (pyarrow.parquet.ParquetWriter, "close"),
    ):
        setattr(owner, name, pointed(owner, name, points))


def pointed(owner: Any, name: str, points: Points) -> Any:
    whole = getattr(owner, name)

    def both(*arguments: Any, **named: Any) -> Any:
        points.pass_(f"before {name}", "")
        made = whole(*arguments, **named)
        points.pass_(f"after {name}", "")
        return made

    return both


def answer_here() -> None:
    """The parity check loads the registered model from MLflow here: a fresh process would take seconds."""
    from evertune.registry.versions import parity

    def answers(_home: Any, model: str, sample: Path) -> Any:
        import mlflow
        import pandas as pd

        given = json.loads(sample.read_text())
        loaded = mlflow.pyfunc.load_model(model, suppress_warnings=True)
        return loaded.predict(pd.DataFrame({given["role"]: given["inputs"]})).to_dict("records")

    parity.prepare_check = lambda *_: None
    parity._predict_isolated = answers


if __name__ == "__main__":
    main()
