"""MLflow runs whose process was killed: the next process closes them, else they would be RUNNING forever.

Each kind of job holds a lock while it has a run, and the lock is free once its process has ended. So the next holder of
the lock knows that a run of that kind which is still RUNNING was abandoned. A home closes its own runs only, not those
of other homes in the same MLflow.
"""

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import RegistryError
from evertune.registry.tracking.store import ensure_experiment, open_client, translate_errors
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)
# Kinds of jobs, which are the names of their locks, and the prefix of their folders in the tag.
KINDS = {"run": "", "backtest": "backtests/", "monitor": "monitors/", "search": "searches/"}
FOLDER = "evertune.folder"  # tag of a run: its home and folder


def mark_started(home: Home, kind: str, folder: Path) -> dict[str, str]:
    """Record that a run is about to be created, and return the tag by which it is found.

    Args:
        kind: one of `KINDS`; this process holds its lock.
        folder: of the run.
    """
    _marker_path(home, kind).parent.mkdir(parents=True, exist_ok=True)
    _marker_path(home, kind).touch()
    return {FOLDER: f"{home.load_identity()}/{KINDS[kind]}{folder.name}"}


def mark_ended(home: Home, kind: str) -> None:
    """Record that the run of this process has ended.

    Args:
        kind: one of `KINDS`.
    """
    _marker_path(home, kind).unlink(missing_ok=True)


def has_open_runs(home: Home) -> bool:
    """Return whether a run was started and has not ended: its process is at work, or was killed."""
    return any(_marker_path(home, kind).exists() for kind in KINDS)


def close_abandoned(home: Home, name: str, *, held_lock: str = "", except_run: str | None = None) -> None:
    """Close the runs that dead processes left RUNNING.

    Args:
        name: of the recipe.
        held_lock: the kind whose lock this process holds.
        except_run: id of the run that this process works on; it is not closed, nor are its children.
    Raises:
        RegistryError: MLflow does not answer.
    """
    running = _find_running(home, name)
    for kind in KINDS:
        with contextlib.ExitStack() as stack:
            if kind != held_lock and not _take_lock(stack, home, kind):
                continue  # its process is alive
            for run in running:
                if kind_of(run) != kind or not _is_other_run(run, except_run):
                    continue
                logger.warning("closing the MLflow run %s, whose process died", run.info.run_name)
                with translate_errors(f"the run {run.info.run_id}, whose process died"):
                    open_client(home).set_terminated(run.info.run_id, "KILLED")
            if kind != held_lock:
                mark_ended(home, kind)


def _take_lock(stack: contextlib.ExitStack, home: Home, kind: str) -> bool:
    """Take the lock of a kind until the stack ends; return False if another process holds it."""
    try:
        stack.enter_context(home.lock(kind, timeout=0))
    except RegistryError:
        return False
    return True


def _marker_path(home: Home, kind: str) -> Path:
    return home.model / f"unfinished-{kind}"


def _find_running(home: Home, name: str) -> "list[Run]":
    condition = f"attributes.status = 'RUNNING' AND tags.`{FOLDER}` LIKE '{home.load_identity()}/%'"
    with translate_errors("the unfinished runs"):
        return list(open_client(home).search_runs([ensure_experiment(home, name)], condition))


def _is_other_run(run: "Run", excluded_run: str | None) -> bool:
    return excluded_run is None or excluded_run not in (run.info.run_id, run.data.tags.get("mlflow.parentRunId"))


def kind_of(run: "Run") -> str | None:
    """Return the kind of a run, one of `KINDS`; None for a run that Evertune did not create."""
    if FOLDER not in run.data.tags:
        return None
    _home, _, folder = run.data.tags[FOLDER].partition("/")
    return next((kind for kind, prefix in KINDS.items() if prefix and folder.startswith(prefix)), "run")
