"""How soon the commands answer that do no training: help, check, and a run with nothing new."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import evertune, machine

REPEATS = 5
RECIPE = "configs/support_intents.yaml"


def measure() -> dict[str, Any]:
    """Median seconds from the prompt to the prompt; the home of the last has one finished run."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        evertune(home, "run", RECIPE, "--set", "training.epochs=0.1", "--json")
        return {
            "machine": machine(),
            "evertune --help": _median(home, "--help"),
            "evertune check": _median(home, "check", RECIPE),
            "evertune run, nothing new": _median(home, "run", RECIPE, "--set", "training.epochs=0.1", "--json"),
        }


def _median(home: Path, *arguments: str) -> float:
    return statistics.median(evertune(home, *arguments)["wall"] for _ in range(REPEATS))
