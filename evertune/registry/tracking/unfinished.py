"""Runs in MLflow whose process was killed: they would be RUNNING for ever, were they not closed by the next.

Each kind of work holds a lock while it has a run, and the lock dies with its process: who gets it knows that a run of
that kind which is RUNNING still has nobody behind it. A home closes its own runs, and no other's in the same MLflow.
"""

import contextlib
import logging
from pathlib import Path
from typing import Any

from evertune.errors import RegistryError
from evertune.registry.tracking.store import client, experiment, said
from evertune.runtime.home import Home

logger = logging.getLogger(__name__)
KINDS = {
    "run": "",
    "backtest": "backtests/",
    "monitor": "monitors/",
    "search": "searches/",
}  # names of locks, and of what the tags hold
FOLDER = "evertune.folder"  # tag of a run: home and folder that it belongs to


def begun(home: Home, kind: str, folder: Path) -> dict[str, str]:
    """Note that there will be a run, for `left`; the tags by which it is found.

    Args:
        kind: one of `KINDS`, whose lock this process holds; folder: of the run.
    """
    _note(home, kind).parent.mkdir(parents=True, exist_ok=True)
    _note(home, kind).touch()
    return {FOLDER: f"{home.identity()}/{KINDS[kind]}{folder.name}"}


def ended(home: Home, kind: str) -> None:
    """The run of this process has come to its end."""
    _note(home, kind).unlink(missing_ok=True)


def left(home: Home) -> bool:
    """Whether a run was begun and has not come to its end: its process is at work, or was killed."""
    return any(_note(home, kind).exists() for kind in KINDS)


def close(home: Home, name: str, *, holding: str = "", but: str | None = None) -> None:
    """End the runs that a dead process left RUNNING.

    Args:
        name: of the recipe; holding: the kind whose lock this process has.
        but: the run that it works on, with its children.
    Raises:
        RegistryError: MLflow does not answer.
    """
    found = _running(home, name)
    for kind in KINDS:
        with contextlib.ExitStack() as stack:
            if kind != holding and not _held(stack, home, kind):
                continue  # its process lives
            for run in [one for one in found if kind_of(one) == kind and _others(one, but)]:
                logger.warning("the run %s was left by a process that died, and is closed", run.info.run_name)
                with said(f"the run {run.info.run_id}, left by an earlier process"):
                    client(home).set_terminated(run.info.run_id, "KILLED")
            if kind != holding:
                ended(home, kind)


def _held(stack: contextlib.ExitStack, home: Home, kind: str) -> bool:
    """Whether nobody has the lock of a kind; then it is held until the stack ends."""
    try:
        stack.enter_context(home.lock(kind, timeout=0))
    except RegistryError:
        return False
    return True


def _note(home: Home, kind: str) -> Path:
    return home.model / f"unfinished-{kind}"


def _running(home: Home, name: str) -> list[Any]:
    mine = f"attributes.status = 'RUNNING' AND tags.`{FOLDER}` LIKE '{home.identity()}/%'"
    with said("the runs that are not finished"):
        return list(client(home).search_runs([experiment(home, name)], mine))


def _others(run: Any, mine: str | None) -> bool:
    return mine is None or mine not in (run.info.run_id, run.data.tags.get("mlflow.parentRunId"))


def kind_of(run: Any) -> str | None:
    """One of `KINDS`; None for a run that no home has begun."""
    if FOLDER not in run.data.tags:
        return None
    _home, _, folder = run.data.tags[FOLDER].partition("/")
    return next((kind for kind, start in KINDS.items() if start and folder.startswith(start)), "run")
