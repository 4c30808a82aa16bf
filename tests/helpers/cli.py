"""A project of a user: data, recipe, home, and the command line over them in processes of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evertune.registry.decisions import ledger
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from tests.helpers.fork_server import ForkServer
from tests.helpers.paths import PYTHONPATH

BREAK = """
import errno, os, signal
def kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
def interrupt(*_, **__): os.kill(os.getpid(), signal.SIGINT)
def full(*_, **__): raise OSError(errno.ENOSPC, "No space left on device")
def after(function, then):
    def both(*args, **kwargs):
        found = function(*args, **kwargs)
        then()
        return found
    return both
"""  # what `Project.evertune(before=...)` may put in the place of a function
WORDS = {
    "refund": "money back amount paid twice charge",
    "delivery": "parcel van courier late doorstep lorry",
    "account": "password login email profile locked code",
}
NAMES = (
    "amber birch cedar dune ember fjord grove heath inlet jade kelp lagoon maple north ochre pine quartz reef".split()
)


def ticket_rows(count: int, start: int = 0) -> list[tuple[str, str]]:
    """Rows that a tiny model can learn, no two of them near duplicates."""
    rows = []
    for number in range(start, start + count):
        label = list(WORDS)[number % len(WORDS)]
        theirs = WORDS[label].split()
        names = [NAMES[(number * step + shift) % len(NAMES)] for step, shift in ((5, 1), (7, 3), (11, 5))]
        told = [
            theirs[number % 6],
            names[0],
            theirs[(number // 6) % 6],
            f"{names[1]}{number}",
            theirs[(number // 2) % 6],
        ]
        rows.append((" ".join([*told, names[2], str(number * 37)]), label))
    return rows


def write_rows(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """A CSV file with the columns `text` and `label`."""
    lines = ["text,label", *(f'"{text}",{label}' for text, label in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output."""
        return json.loads(self.out)


@dataclass
class Project:
    """A folder with a recipe.

    Args:
        server: PREFECT_API_URL of a running server: a temporary one would cost many seconds a command.
        commands: runs the commands; without it each starts an interpreter.
    """

    folder: Path
    base: Path
    server: str
    commands: ForkServer | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def home(self) -> Home:
        return Home(self.folder / "home", "tickets")

    def write(self, **sections: Any) -> "Project":
        """Write the recipe; a section replaces the one that suits the tiny model."""
        tree = {
            "name": "tickets",
            "objective": {"type": "text-classification", "max_length": 48},
            "base_model": str(self.base),
            "data": {"sources": [{"path": "rows/*.csv"}], "split": {"validation": 0.1, "test": 0.25}},
            "contract": {"tolerance": 0.2},
            "training": {
                "epochs": 8,
                "learning_rate": 5e-3,
                "tokens_per_batch": 256,
                "precision": "fp32",
                "warmup": 0.0,
                "checkpoint_steps": 10,
            },
            "evaluation": {
                "precision": "fp32",
                "bootstrap": 200,
                "gate": {"minimum": {"accuracy": 0.4}, "min_rows": 10},
            },
            **sections,
        }
        self.recipe.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return self

    def evertune(self, *arguments: str, before: str = "", flags: Sequence[str] = (), fresh: bool = False) -> Done:
        """Run a command in a process of its own.

        Args:
            before: Python code that runs first in its process, to break something in it.
            flags: of the interpreter.
            fresh: start an interpreter for it, which imports everything itself, as `flags` do.
        """
        code = f"{BREAK if before else ''}{before}\nfrom evertune.cli import main\nmain({list(arguments)!r})"
        if self.commands is not None and not (flags or fresh):
            with_prefect = arguments[0] in ("run", "score", "monitor")  # with --debug it would read other settings
            return Done(*self.commands.run(code, self._environment(), self.folder, with_prefect))
        command = [sys.executable, *flags, "-c", code]
        done = subprocess.run(command, env=self._environment(), cwd=self.folder, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr)

    def run(self, *arguments: str, before: str = "", fresh: bool = False) -> Done:
        """`evertune run` with `--json`."""
        return self.evertune("run", str(self.recipe), "--json", *arguments, before=before, fresh=fresh)

    def state(self) -> Any:
        return read_json(self.home.state)

    def entries(self, event: str) -> list[dict[str, Any]]:
        return [one for one in ledger.read_entries(self.home) if one["event"] == event]

    def _environment(self) -> dict[str, str]:
        own = {"EVERTUNE_HOME": str(self.folder / "home"), "PREFECT_API_URL": self.server, "PYTHONPATH": PYTHONPATH}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
        return {**kept, "OMP_NUM_THREADS": "1", **own, **self.environment}
