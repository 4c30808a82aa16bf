"""Runs in MLflow whose process was killed: they would be RUNNING for ever, were they not closed by the next.

Each kind of work holds a lock while it has a run, and the lock dies with its process: who gets it knows that a run of
that kind which is RUNNING still has nobody behind it. A home closes its own runs, and no other's in the same MLflow.
"""

import contextlib
import logging
from pathlib import Path
from typing import Any

from evertune.errors import RegistryError
from evertune.registry.tracking.store import ensure_experiment, open_client, translate_errors
from evertune.runtime.home import Home

logger = logging.getLogger(__name__)
KINDS = {
    "run": "",
    "backtest": "backtests/",
    "monitor": "monitors/",
    "search": "searches/",
}  # names of locks, and of what the tags hold
FOLDER = "evertune.folder"  # tag of a run: home and folder that it belongs to


def mark_started(home: Home, kind: str, folder: Path) -> dict[str, str]:
    """Note that there will be a run, for `left`; the tags by which it is found.

    Args:
        kind: one of `KINDS`, whose lock this process holds; folder: of the run.
    """
    _marker_path(home, kind).parent.mkdir(parents=True, exist_ok=True)
    _marker_path(home, kind).touch()
    return {FOLDER: f"{home.load_identity()}/{KINDS[kind]}{folder.name}"}


def mark_ended(home: Home, kind: str) -> None:
    """The run of this process has come to its end."""
    _marker_path(home, kind).unlink(missing_ok=True)


def has_open_runs(home: Home) -> bool:
    """Whether a run was begun and has not come to its end: its process is at work, or was killed."""
    return any(_marker_path(home, kind).exists() for kind in KINDS)


def close_abandoned(home: Home, name: str, *, held_lock: str = "", except_run: str | None = None) -> None:
    """End the runs that a dead process left RUNNING.

    Args:
        name: of the recipe; holding: the kind whose lock this process has.
        but: the run that it works on, with its children.
    Raises:
        RegistryError: MLflow does not answer.
    """
    running = _find_running(home, name)
    for kind in KINDS:
        with contextlib.ExitStack() as stack:
            if kind != held_lock and not _take_lock(stack, home, kind):
                continue  # its process lives
            for run in [
                candidate
                for candidate in running
                if kind_of(candidate) == kind and _is_other_run(candidate, except_run)
            ]:
                logger.warning("the run %s was left by a process that died, and is closed", run.info.run_name)
                with translate_errors(f"the run {run.info.run_id}, left by an earlier process"):
                    open_client(home).set_terminated(run.info.run_id, "KILLED")
            if kind != held_lock:
                mark_ended(home, kind)


def _take_lock(stack: contextlib.ExitStack, home: Home, kind: str) -> bool:
    """Whether nobody has the lock of a kind; then it is held until the stack ends."""
    try:
        stack.enter_context(home.lock(kind, timeout=0))
    except RegistryError:
        return False
    return True


def _marker_path(home: Home, kind: str) -> Path:
    return home.model / f"unfinished-{kind}"


def _find_running(home: Home, name: str) -> list[Any]:
    condition = f"attributes.status = 'RUNNING' AND tags.`{FOLDER}` LIKE '{home.load_identity()}/%'"
    with translate_errors("the runs that are not finished"):
        return list(open_client(home).search_runs([ensure_experiment(home, name)], condition))


def _is_other_run(run: Any, excluded_run: str | None) -> bool:
    return excluded_run is None or excluded_run not in (run.info.run_id, run.data.tags.get("mlflow.parentRunId"))


def kind_of(run: Any) -> str | None:
    """One of `KINDS`; None for a run that no home has begun."""
    if FOLDER not in run.data.tags:
        return None
    _home, _, folder = run.data.tags[FOLDER].partition("/")
    return next((kind for kind, prefix in KINDS.items() if prefix and folder.startswith(prefix)), "run")
