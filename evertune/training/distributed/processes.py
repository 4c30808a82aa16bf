"""A training in several processes: they are told what to do, listened to, and never outlive the step."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.errors import ConfigError
from evertune.objectives import load_objective
from evertune.records import Tokens
from evertune.runtime import helper_process
from evertune.runtime.files import write_atomic
from evertune.runtime.home import Home
from evertune.runtime.precision import resolve_precision
from evertune.training.distributed import messages
from evertune.training.distributed.launcher import count_machines

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.training.progress import Log

GRACE = 30.0  # seconds that the system may take to end a process


@dataclass(frozen=True)
class TrainingOrder:
    """What the processes are told: a recipe, and where things are.

    Args:
        recipe: its precision is decided: all processes use the same.
        rows: Arrow file of the rows, without their inputs.
        level: of the log; terminal: whether a person looks at standard error.
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
    """Whether more than this process trains: several are asked for, or there are several machines."""
    return recipe.training.processes * count_machines(os.environ, recipe.training.processes) > 1


def train_in_processes(
    recipe: Recipe,
    home: Home,
    tokens: Tokens,
    rows: "pa.Table",
    run_id: str,
    folder: Path,
    log: "Log",
    champion: Path | None,
    since: int,
) -> dict[str, Any]:
    """Train in `training.processes` processes, and return the facts that a training in one gives.

    Raises:
        ConfigError: more processes than GPUs.
        EvertuneError: as a training in one process.
        TrainingError: a process was killed.
        RuntimeError: what nobody expected, with the name of the log.
    """
    work_folder = folder / "processes"
    shutil.rmtree(work_folder, ignore_errors=True)
    work_folder.mkdir(parents=True)
    _write_rows(rows, recipe, work_folder / "rows.arrow")
    level = logging.getLogger("evertune").getEffectiveLevel()
    order = TrainingOrder(
        _resolve_precisions(recipe, home),
        home,
        tokens,
        work_folder / "rows.arrow",
        folder,
        run_id,
        champion,
        since,
        level,
        sys.stderr.isatty(),
    )
    write_atomic(work_folder / "order.json", to_json(order))
    with _launch_processes(work_folder, recipe.training.processes) as launcher:
        received = messages.relay_messages(launcher.stdout or (), log)
        status = launcher.wait()
    if received.done is None or status:
        raise messages.find_cause(received, status, work_folder / "log.txt")
    shutil.rmtree(work_folder)
    return received.done


def to_json(order: TrainingOrder) -> str:
    """The order as it is written for the processes."""
    return str(_order_adapter().dump_json(order).decode())


def from_json(text: str) -> TrainingOrder:
    """The order that was written."""
    order: TrainingOrder = _order_adapter().validate_json(text)
    return order


def _order_adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(TrainingOrder)


def _resolve_precisions(recipe: Recipe, home: Home) -> Recipe:
    """The recipe with the precision that one process would use here."""
    import torch

    if torch.cuda.is_available() and recipe.training.processes > torch.cuda.device_count():
        raise ConfigError(
            f"training.processes: {recipe.training.processes}, but this machine has {torch.cuda.device_count()} GPUs"
        )
    memory = home.root / "machine.json"
    sections = {
        name: section.model_copy(update={"precision": resolve_precision(section.precision, memory)})
        for name, section in (("training", recipe.training), ("evaluation", recipe.evaluation))
    }
    return recipe.model_copy(update=sections)


def _write_rows(rows: "pa.Table", recipe: Recipe, path: Path) -> None:
    import pyarrow as pa

    target = load_objective(recipe.objective.type).TARGET
    columns = rows.select(["row_version", "batch", "part", "split", target])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, columns.schema) as writer:
        writer.write_table(columns)


def read_rows(path: Path) -> "pa.Table":
    """The rows that were written for the processes, memory-mapped."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


@contextlib.contextmanager
def _launch_processes(work_folder: Path, processes: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The launcher, in a session of its own: Ctrl-C reaches this process alone, which ends the others."""
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
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin slow the other processes down (docs/decisions)
        **helper_process.build_environment(),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // processes)),
    }


def _end_processes(launcher: "subprocess.Popen[bytes]") -> None:
    """End the launcher and the processes, if they have not ended: a checkpoint that is cut counts for nothing."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(launcher.pid).children(recursive=True), psutil.Process(launcher.pid)]
        for process in reversed(family):  # the launcher first: it would take the end of the others for a failure
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        launcher.wait()
        psutil.wait_procs(family, GRACE)
    for pipe in (launcher.stdin, launcher.stdout):
        if pipe is not None:
            pipe.close()
