"""The quickstart: wall time by step, of the first run and of the second act."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import describe_machine, run_evertune

RECIPE = "configs/support_intents.yaml"


def measure() -> dict[str, Any]:
    """Seconds by step, and what is neither training nor evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        first = run_evertune(home, "run", RECIPE, "--json")
        second = run_evertune(home, "run", RECIPE, "--set", "data.sources.0.weeks=9", "--json")
    return {"machine": describe_machine(), "first run": _split_run(first), "second act": _split_run(second)}


def _split_run(outcome: dict[str, Any]) -> dict[str, Any]:
    learning = outcome["training"]["seconds"] + outcome["seconds"]["evaluate"]
    return {
        "decision": outcome["decision"],
        "reason": outcome["reason"],
        "rows": outcome["rows"],
        "metrics": outcome["metrics"],
        "seconds": outcome["seconds"],
        "wall": outcome["wall"],
        "training": outcome["training"]["seconds"],
        "besides training and evaluation": outcome["wall"] - learning,
    }
