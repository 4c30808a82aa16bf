"""What was tested is what is served: the registered model, in a fresh process with only its logged requirements."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evertune.errors import RegistryError
from evertune.registry.tracking.store import client, tracking_uri
from evertune.registry.versions import requirements
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.runtime.secrets import hidden

AGREEMENT = 0.999  # least share of equal labels
TOLERANCE = {"fp32": 1e-4, "bf16": 0.03}  # largest difference of a probability
SECONDS = 600
_waiting: "dict[tuple[str, frozenset[str]], _Stranger]" = {}  # started by `prepare`, by store and requirements


def check(home: Home, name: str, version: int, sample: Path, precision: str) -> dict[str, Any]:
    """Load `models:/NAME/VERSION` in a fresh process, without Evertune, and compare its predictions with those tested.

    Args:
        sample: JSON with `role`, `inputs` and the `predictions` of the evaluation.
        precision: arithmetic of the evaluation.
    Returns:
        evidence for the gate: `passed`, `problem` (None where it answers), `agreement` and `difference`.
    """
    expected = read_json(sample)
    try:
        found = _answers(home, f"models:/{name}/{version}", sample)
    except RegistryError as error:
        return _failed(str(error))
    return compare(expected["predictions"], found, TOLERANCE[precision])


def prepare(home: Home, required: Sequence[str]) -> None:
    """Start the process of a coming check now: by the time that there is a model, its imports are done.

    It sees what any check's process sees, and is used only for a model that was logged with these very requirements.

    Args:
        required: requirements that the model will be logged with.
    """
    with contextlib.suppress(RegistryError):  # the check itself will say it
        _waiting[tracking_uri(home), frozenset(required)] = _Stranger(home, required)


def dismiss() -> None:
    """End what `prepare` has started and no check has used."""
    while _waiting:
        _waiting.popitem()[1].end()


def _answers(home: Home, model: str, sample: Path) -> Any:
    """What the registered model predicts in a process that has its logged requirements and nothing else."""
    client(home)
    required = requirements.logged(model)
    stranger = _waiting.pop((tracking_uri(home), frozenset(required)), None)
    if stranger is None or not stranger.lives():
        stranger = _Stranger(home, required)
    try:
        return stranger.answer(model, sample)
    finally:
        stranger.end()


class _Stranger:
    """A process without Evertune: it imports the libraries that are linked for it, and waits for a model.

    Raises:
        RegistryError: a requirement is not installed, or in another version.
    """

    def __init__(self, home: Home, required: Sequence[str]) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        self._answer, packages = Path(self._scratch.name) / "answer.json", Path(self._scratch.name) / "packages"
        requirements.link(required, packages)
        script = Path(__file__).with_name("parity_process.py")
        # -I and -S: no site-packages, no user site, no PYTHONPATH; only what was linked into `packages`.
        command = [sys.executable, "-I", "-S", *map(str, (script, packages, self._answer))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=_environment(home), cwd=self._scratch.name,
        )  # fmt: skip

    def lives(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None

    def answer(self, model: str, sample: Path) -> Any:
        """The model's predictions of the sample.

        Raises:
            RegistryError: it gives none.
        """
        try:
            _, said = self._process.communicate(json.dumps([model, str(sample.resolve())]) + "\n", timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise RegistryError(f"it gave no answer within {SECONDS} s") from error
        if self._process.returncode or not self._answer.exists():
            last = (said.strip().splitlines() or ["no message"])[-1]
            raise RegistryError(f"it does not load or predict: {hidden(last)}")
        return read_json(self._answer)

    def end(self) -> None:
        """Leave no process and no file behind."""
        self._process.kill()
        self._process.wait()
        self._scratch.cleanup()


def _failed(problem: str) -> dict[str, Any]:
    return {"test": "parity", "passed": False, "problem": problem}


def compare(expected: list[dict[str, Any]], found: list[dict[str, Any]], tolerance: float) -> dict[str, Any]:
    """Share of equal labels and the largest difference of a probability where the labels are equal."""
    pairs = [(_flat(old), _flat(new)) for old, new in zip(expected, found, strict=False)]
    if not expected and not found:
        return _failed("no row of its recorded sample is left to compare by")
    if len(expected) != len(found) or any(_shape(one) != _shape(other) for one, other in pairs):
        return _failed("it gives other rows or columns")
    labels, differences = [], [0.0]
    for one, other in pairs:
        same = [a == b for a, b in zip(one["labels"], other["labels"], strict=True)]
        labels += same
        scores = list(zip(one["scores"], other["scores"], strict=True))
        alike = same if len(same) == len(scores) else [all(same)] * len(scores)  # a score a label, or of the whole
        differences += [abs(a - b) for (a, b), equal in zip(scores, alike, strict=True) if equal]
    agreement = sum(labels) / len(labels) if labels else 1.0
    close = all(one <= tolerance for one in differences)  # false for what is not a number
    return {
        "test": "parity", "rows": len(expected), "agreement": agreement, "difference": max(differences),
        "threshold": tolerance, "passed": agreement >= AGREEMENT and close, "problem": None,
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


def why(found: dict[str, Any]) -> str:
    """Why a check did not pass."""
    if found["problem"]:
        return str(found["problem"])
    return f"{found['agreement']:.2%} of labels agree, probabilities differ by up to {found['difference']:.2g}"
