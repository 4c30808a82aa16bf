"""What was tested is what is served: the registered model, in a fresh process with only its logged requirements."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from evertune.home import Home, read_json
from evertune.registry import requirements
from evertune.registry.store import client, tracking_uri

AGREEMENT = 0.999  # least share of equal labels
TOLERANCE = {"fp32": 1e-4, "bf16": 0.03}  # largest difference of a probability
SECONDS = 600


def check(home: Home, name: str, version: int, sample: Path, precision: str) -> dict[str, Any]:
    """Load `models:/NAME/VERSION` in a fresh process, without Evertune, and compare its predictions with those tested.

    Args:
        sample: JSON with `role`, `inputs` and the `predictions` of the evaluation.
        precision: arithmetic of the evaluation.
    Returns:
        evidence for the gate: `passed`, `agreement`, `difference`, and `problem` where something failed.
    """
    expected = read_json(sample)
    with tempfile.TemporaryDirectory() as scratch:
        answer, packages = Path(scratch) / "answer.json", Path(scratch) / "packages"
        client(home)
        requirements.link(requirements.logged(f"models:/{name}/{version}"), packages)
        script = str(Path(__file__).with_name("parity_process.py"))
        # -I and -S: no site-packages, no user site, no PYTHONPATH; only what was linked into `packages`.
        command = [
            sys.executable,
            "-I",
            "-S",
            script,
            str(packages),
            tracking_uri(home),
            f"models:/{name}/{version}",
            str(sample),
            str(answer),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, env=_environment(), cwd=scratch
            )
        except subprocess.TimeoutExpired:
            return {"test": "parity", "passed": False, "problem": f"no answer within {SECONDS} s"}
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return {
                "test": "parity",
                "passed": False,
                "problem": f"the registered model does not load or predict: {last}",
            }
        return compare(expected["predictions"], read_json(answer), TOLERANCE[precision])


def compare(expected: list[dict[str, Any]], found: list[dict[str, Any]], tolerance: float) -> dict[str, Any]:
    """Share of equal labels and the largest difference of a probability where the labels are equal."""
    labels, differences = [], [0.0]
    for old, new in zip(expected, found, strict=True):
        one, other = _flat(old), _flat(new)
        same = [a == b for a, b in zip(one["labels"], other["labels"], strict=True)]
        labels += same
        differences += [abs(a - b) for a, b, equal in zip(one["scores"], other["scores"], same, strict=True) if equal]
    agreement = sum(labels) / max(1, len(labels))
    passed = bool(labels) and agreement >= AGREEMENT and max(differences) <= tolerance
    return {
        "test": "parity", "rows": len(expected), "agreement": agreement, "difference": max(differences),
        "threshold": tolerance, "passed": passed,
    }  # fmt: skip


def _flat(prediction: dict[str, Any]) -> dict[str, list[Any]]:
    values = [item for value in prediction.values() for item in (value if isinstance(value, list) else [value])]
    return {
        "labels": [one for one in values if isinstance(one, str)],
        "scores": [one for one in values if not isinstance(one, str)],
    }


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "true",
    }
