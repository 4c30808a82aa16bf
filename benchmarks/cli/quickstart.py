"""The quickstart: wall time by step, of the first run and of the second act."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import evertune, machine

RECIPE = "configs/support_intents.yaml"


def measure() -> dict[str, Any]:
    """Seconds by step, and what is neither training nor evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        first = evertune(home, "run", RECIPE, "--json")
        second = evertune(home, "run", RECIPE, "--set", "data.sources.0.weeks=9", "--json")
    return {"machine": machine(), "first run": _split(first), "second act": _split(second)}


def _split(done: dict[str, Any]) -> dict[str, Any]:
    learning = done["training"]["seconds"] + done["seconds"]["evaluate"]
    return {
        "decision": done["decision"], "reason": done["reason"], "rows": done["rows"], "metrics": done["metrics"],
        "seconds": done["seconds"], "wall": done["wall"], "training": done["training"]["seconds"],
        "besides training and evaluation": done["wall"] - learning,
    }  # fmt: skip
