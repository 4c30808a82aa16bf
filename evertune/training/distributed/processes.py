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
from evertune.objectives import module
from evertune.records import Tokens
from evertune.runtime import helper_process as beside
from evertune.runtime.files import write_atomic
from evertune.runtime.home import Home
from evertune.runtime.precision import resolve_precision
from evertune.training.distributed import messages as reports
from evertune.training.distributed.launcher import machines

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.training.progress import Log

GRACE = 30.0  # seconds that the system may take to end a process


@dataclass(frozen=True)
class Order:
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


def wanted(recipe: Recipe) -> bool:
    """Whether more than this process trains: several are asked for, or there are several machines."""
    return recipe.training.processes * machines(os.environ, recipe.training.processes) > 1


def train(
    recipe: Recipe, home: Home, tokens: Tokens, rows: "pa.Table",
    run_id: str, folder: Path, log: "Log", champion: Path | None, since: int,
) -> dict[str, Any]:  # fmt: skip
    """Train in `training.processes` processes, and return the facts that a training in one gives.

    Raises:
        ConfigError: more processes than GPUs.
        EvertuneError: as a training in one process.
        TrainingError: a process was killed.
        RuntimeError: what nobody expected, with the name of the log.
    """
    place = folder / "processes"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    _write_rows(rows, recipe, place / "rows.arrow")
    level = logging.getLogger("evertune").getEffectiveLevel()
    order = Order(
        _decided(recipe, home), home, tokens, place / "rows.arrow", folder, run_id, champion, since, level,
        sys.stderr.isatty(),
    )  # fmt: skip
    write_atomic(place / "order.json", to_json(order))
    with _launched(place, recipe.training.processes) as launcher:
        heard = reports.listen(launcher.stdout or (), log)
        status = launcher.wait()
    if heard.done is None or status:
        raise reports.error(heard, status, place / "log.txt")
    shutil.rmtree(place)
    return heard.done


def to_json(order: Order) -> str:
    """The order as it is written for the processes."""
    return str(_adapter().dump_json(order).decode())


def from_json(text: str) -> Order:
    """The order that was written."""
    order: Order = _adapter().validate_json(text)
    return order


def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Order)


def _decided(recipe: Recipe, home: Home) -> Recipe:
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

    target = module(recipe.objective.type).TARGET
    kept = rows.select(["row_version", "batch", "part", "split", target])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, kept.schema) as writer:
        writer.write_table(kept)


def read_rows(path: Path) -> "pa.Table":
    """The rows that were written for the processes, memory-mapped."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


@contextlib.contextmanager
def _launched(place: Path, processes: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The launcher, in a session of its own: Ctrl-C reaches this process alone, which ends the others."""
    command = [
        sys.executable,
        "-m",
        "evertune.training.distributed.launcher",
        str(place / "order.json"),
        str(processes),
    ]
    with (place / "log.txt").open("wb") as said:
        launcher = subprocess.Popen(
            command, env=_environment(processes), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield launcher
    finally:
        _end(launcher)


def _environment(processes: int) -> dict[str, str]:
    import torch

    return {
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin slow the other processes down (docs/decisions)
        **beside.environment(),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // processes)),
    }


def _end(launcher: "subprocess.Popen[bytes]") -> None:
    """End the launcher and the processes, if they have not ended: a checkpoint that is cut counts for nothing."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(launcher.pid).children(recursive=True), psutil.Process(launcher.pid)]
        for one in reversed(family):  # the launcher first: it would take the end of the others for a failure
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        launcher.wait()
        psutil.wait_procs(family, GRACE)
    for pipe in (launcher.stdin, launcher.stdout):
        if pipe is not None:
            pipe.close()
