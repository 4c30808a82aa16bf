"""Train in several processes: start them with an order, relay their messages, and end them with the step."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.errors import ConfigError
from evertune.objectives import load_objective
from evertune.records import Tokens
from evertune.runtime import helper_process, ipc
from evertune.runtime.context import RunContext
from evertune.runtime.files import write_atomic
from evertune.runtime.home import Home
from evertune.runtime.precision import resolve_precision
from evertune.training.distributed import messages
from evertune.training.distributed.launcher import count_machines

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.training.finetune import TrainingFacts
    from evertune.training.progress import Log

GRACE = 30.0  # seconds that the system may take to end a killed process


@dataclass(frozen=True)
class TrainingOrder(ipc.Order):
    """What the processes of a training are told.

    Args:
        recipe: with resolved precisions, so that all processes use the same.
        home: where the model's files are.
        tokens: the token data set.
        rows: Arrow file of the rows, without their inputs.
        folder: of the run.
        run_id: of the run.
        champion: bundle to start from; None for the base.
        since: rows of later batches are new to the champion.
        level: level of the log.
        terminal: whether standard error is a terminal.
    """

    recipe: Recipe
    home: Home
    tokens: Tokens
    rows: Path
    folder: Path
    run_id: str
    champion: Path | None
    since: int
    level: int
    terminal: bool


def requires_processes(recipe: Recipe) -> bool:
    """Whether several processes train: the recipe sets more than one, or there are several machines."""
    return recipe.training.processes * count_machines(os.environ, recipe.training.processes) > 1


def train_in_processes(
    context: RunContext,
    tokens: Tokens,
    rows: "pa.Table",
    run_id: str,
    folder: Path,
    log: "Log",
    champion: Path | None,
    since: int,
) -> "TrainingFacts":
    """Train in `training.processes` processes; arguments and result are those of `train_model`.

    Raises:
        ConfigError: the recipe sets more processes than there are GPUs.
        EvertuneError: as `train_model`.
        TrainingError: a process was killed.
        RuntimeError: an unexpected error; the message names the log.
    """
    work_folder = folder / "processes"
    shutil.rmtree(work_folder, ignore_errors=True)
    work_folder.mkdir(parents=True)
    _write_rows(rows, context.recipe, work_folder / "rows.arrow")
    level = logging.getLogger("evertune").getEffectiveLevel()
    order = TrainingOrder(
        recipe=_resolve_precisions(context),
        home=context.home,
        tokens=tokens,
        rows=work_folder / "rows.arrow",
        folder=folder,
        run_id=run_id,
        champion=champion,
        since=since,
        level=level,
        terminal=sys.stderr.isatty(),
    )
    write_atomic(work_folder / "order.json", order.to_json())
    with _launch_processes(work_folder, context.recipe.training.processes) as launcher:
        received = messages.relay_messages(launcher.stdout or (), log)
        status = launcher.wait()
    if received.done is None or status:
        raise messages.find_cause(received, status, work_folder / "log.txt")
    shutil.rmtree(work_folder)
    return received.done


def _resolve_precisions(context: RunContext) -> Recipe:
    """Return the recipe with the precisions that a single process would use on this machine."""
    import torch

    if torch.cuda.is_available() and context.recipe.training.processes > torch.cuda.device_count():
        raise ConfigError(
            f"training.processes: {context.recipe.training.processes}, but this machine has "
            f"{torch.cuda.device_count()} GPUs; "
            "lower it"
        )
    memory = context.home.root / "machine.json"
    training = {"precision": resolve_precision(context.recipe.training.precision, memory)}
    evaluation = {"precision": resolve_precision(context.recipe.evaluation.precision, memory)}
    return context.recipe.model_copy(
        update={
            "training": context.recipe.training.model_copy(update=training),
            "evaluation": context.recipe.evaluation.model_copy(update=evaluation),
        }
    )


def _write_rows(rows: "pa.Table", recipe: Recipe, path: Path) -> None:
    import pyarrow as pa

    target = load_objective(recipe.objective.type).TARGET
    columns = rows.select(["row_version", "batch", "part", "split", target])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, columns.schema) as writer:
        writer.write_table(columns)


def read_rows(path: Path) -> "pa.Table":
    """Return the rows that were written for the processes, memory-mapped."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


@contextlib.contextmanager
def _launch_processes(work_folder: Path, processes: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the launcher in a session of its own: Ctrl-C reaches only this process, which ends the others."""
    command = [
        sys.executable,
        "-m",
        "evertune.training.distributed.launcher",
        str(work_folder / "order.json"),
        str(processes),
    ]
    with (work_folder / "log.txt").open("wb") as stderr:
        launcher = subprocess.Popen(
            command,
            env=_build_environment(processes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        yield launcher
    finally:
        _end_processes(launcher)


def _build_environment(processes: int) -> dict[str, str]:
    import torch

    return {
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads slow the other processes down (docs/decisions)
        **helper_process.build_environment(),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // processes)),
    }


def _end_processes(launcher: "subprocess.Popen[bytes]") -> None:
    """Kill the launcher and the processes if they still run; a checkpoint that is cut off is ignored later."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(launcher.pid).children(recursive=True), psutil.Process(launcher.pid)]
        for process in reversed(family):  # the launcher first, or it would report the end of the others as a failure
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        launcher.wait()
        psutil.wait_procs(family, GRACE)
    for pipe in (launcher.stdin, launcher.stdout):
        if pipe is not None:
            pipe.close()
