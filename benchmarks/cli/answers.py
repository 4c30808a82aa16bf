"""How soon the commands answer that do no training: help, check of a small file, and a run with nothing new."""

import csv
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
        small = _small(home)
        return {
            "machine": machine(),
            "evertune --help": _median(home, "--help"),
            "evertune check": _median(home, "check", small),
            "evertune run, nothing new": _median(home, "run", RECIPE, "--set", "training.epochs=0.1", "--json"),
        }


def _small(folder: Path) -> str:
    """The recipe that `evertune new` writes for 400 of the sample tickets in a CSV."""
    from evertune.samples.support_tickets import rows

    good = [row for row in rows(8) if row["message"] and row["intent"]][:400]
    with (folder / "small.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["message", "intent"], *((row["message"], row["intent"]) for row in good)])
    evertune(folder, "new", "small", "--data", str(folder / "small.csv"), "--output", str(folder / "small.yaml"))
    return str(folder / "small.yaml")


def _median(home: Path, *arguments: str) -> float:
    return statistics.median(evertune(home, *arguments)["wall"] for _ in range(REPEATS))
