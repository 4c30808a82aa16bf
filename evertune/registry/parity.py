"""What was tested is what is served: the registered model, in a fresh process with only its logged requirements."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from evertune.errors import RegistryError
from evertune.home import Home, read_json
from evertune.registry import requirements
from evertune.registry.store import client, tracking_uri
from evertune.secrets import hidden

AGREEMENT = 0.999  # least share of equal labels
TOLERANCE = {"fp32": 1e-4, "bf16": 0.03}  # largest difference of a probability
SECONDS = 600


def check(home: Home, name: str, version: int, sample: Path, precision: str) -> dict[str, Any]:
    """Load `models:/NAME/VERSION` in a fresh process, without Evertune, and compare its predictions with those tested.

    Args:
        sample: JSON with `role`, `inputs` and the `predictions` of the evaluation.
        precision: arithmetic of the evaluation.
    Returns:
        evidence for the gate: `passed`, `problem` (None where it answers), `agreement` and `difference`.
    """
    expected = read_json(sample)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = _answers(home, f"models:/{name}/{version}", sample, Path(scratch))
        except RegistryError as error:
            return _failed(str(error))
        return compare(expected["predictions"], found, TOLERANCE[precision])


def _answers(home: Home, model: str, sample: Path, scratch: Path) -> Any:
    """What the registered model predicts in a process that has its logged requirements and nothing else."""
    answer, packages = scratch / "answer.json", scratch / "packages"
    client(home)
    requirements.link(requirements.logged(model), packages)
    script = Path(__file__).with_name("parity_process.py")
    given = [script, packages, model, sample, answer]
    # -I and -S: no site-packages, no user site, no PYTHONPATH; only what was linked into `packages`.
    command = [sys.executable, "-I", "-S", *map(str, given)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, env=_environment(home), cwd=scratch
        )
    except subprocess.TimeoutExpired as error:
        raise RegistryError(f"it gave no answer within {SECONDS} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RegistryError(f"it does not load or predict: {hidden(last)}")
    return read_json(answer)


def _failed(problem: str) -> dict[str, Any]:
    return {"test": "parity", "passed": False, "problem": problem}


def compare(expected: list[dict[str, Any]], found: list[dict[str, Any]], tolerance: float) -> dict[str, Any]:
    """Share of equal labels and the largest difference of a probability where the labels are equal."""
    pairs = [(_flat(old), _flat(new)) for old, new in zip(expected, found, strict=False)]
    if len(expected) != len(found) or any(_shape(one) != _shape(other) for one, other in pairs):
        return _failed("it gives other rows or columns")
    labels, differences = [], [0.0]
    for one, other in pairs:
        same = [a == b for a, b in zip(one["labels"], other["labels"], strict=True)]
        labels += same
        differences += [abs(a - b) for a, b, equal in zip(one["scores"], other["scores"], same, strict=True) if equal]
    agreement = sum(labels) / max(1, len(labels))
    close = all(one <= tolerance for one in differences)  # false for what is not a number
    return {
        "test": "parity", "rows": len(expected), "agreement": agreement, "difference": max(differences),
        "threshold": tolerance, "passed": bool(labels) and agreement >= AGREEMENT and close, "problem": None,
    }  # fmt: skip


def _shape(flat: dict[str, list[Any]]) -> list[int]:
    return [len(values) for values in flat.values()]


def _flat(prediction: dict[str, Any]) -> dict[str, list[Any]]:
    values = [item for value in prediction.values() for item in (value if isinstance(value, list) else [value])]
    return {
        "labels": [one for one in values if isinstance(one, str)],
        "scores": [one for one in values if not isinstance(one, str)],
    }


def _environment(home: Home) -> dict[str, str]:
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracking_uri(home),  # not an argument: `ps` would show its password
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "true",
    }
