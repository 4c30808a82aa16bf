"""How soon the commands answer that do no training: help, check of a small file, and a run with nothing new."""

import csv
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import describe_machine, run_evertune

REPEATS = 5
RECIPE = "configs/support_intents.yaml"


def measure() -> dict[str, Any]:
    """Median seconds from the prompt to the prompt; the home of the last has one finished run."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        run_evertune(home, "run", RECIPE, "--set", "training.epochs=0.1", "--json")
        small = _write_small_recipe(home)
        return {
            "machine": describe_machine(),
            "evertune --help": _median_seconds(home, "--help"),
            "evertune check": _median_seconds(home, "check", small),
            "evertune run, nothing new": _median_seconds(home, "run", RECIPE, "--set", "training.epochs=0.1", "--json"),
        }


def _write_small_recipe(folder: Path) -> str:
    """The recipe that `evertune new` writes for 400 of the sample tickets in a CSV."""
    from evertune.samples.support_tickets import generate_rows

    good = [row for row in generate_rows(8) if row["message"] and row["intent"]][:400]
    with (folder / "small.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["message", "intent"], *((row["message"], row["intent"]) for row in good)])
    run_evertune(folder, "new", "small", "--data", str(folder / "small.csv"), "--output", str(folder / "small.yaml"))
    return str(folder / "small.yaml")


def _median_seconds(home: Path, *arguments: str) -> float:
    return statistics.median(run_evertune(home, *arguments)["wall"] for _ in range(REPEATS))
