"""The parity check: the registered model, in a fresh process with only its logged requirements, predicts as tested."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from evertune.errors import RegistryError
from evertune.registry.tracking.store import open_client, tracking_uri
from evertune.registry.versions import requirements
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.runtime.secrets import hide_secrets

if TYPE_CHECKING:
    from evertune.objectives import Input, Prediction
    from evertune.records import Evidence

AGREEMENT = 0.999  # smallest share of equal labels
TOLERANCE = {"fp32": 1e-4, "bf16": 0.03}  # largest difference of a probability
TIMEOUT = 600  # seconds
# Processes that wait for a model, by store and requirements.
_prepared_processes: "dict[tuple[str, frozenset[str]], _IsolatedProcess]" = {}


class Sample(TypedDict):
    """What `parity.json` holds: inputs, each of one role or of several, and what the evaluated model predicts."""

    role: str | list[str]
    inputs: "list[Input]"  # tuples have become lists
    predictions: "list[Prediction]"


def check_parity(home: Home, name: str, version: int, sample: Path, precision: str) -> "Evidence":
    """Load a version in a fresh process, without Evertune, and compare its predictions with those of the evaluation.

    Args:
        sample: JSON file with `role`, `inputs` and the `predictions` of the evaluation.
        precision: arithmetic of the evaluation.
    Returns:
        evidence for the gate: `passed`, `problem` (None if the model predicts), `agreement` and `difference`.
    """
    expected = cast(Sample, read_json(sample))
    try:
        predictions = _predict_isolated(home, f"models:/{name}/{version}", sample)
    except RegistryError as error:
        return _build_failure(str(error))
    return compare_predictions(expected["predictions"], predictions, TOLERANCE[precision])


def prepare_check(home: Home, model_requirements: Sequence[str]) -> None:
    """Start the process of a later check now, so that its imports are done by the time there is a model.

    It is like the process of any check, and is used only for a model that was logged with the same requirements.

    Args:
        model_requirements: requirements that the model will be logged with.
    """
    with contextlib.suppress(RegistryError):  # the check itself raises it
        _prepared_processes[tracking_uri(home), frozenset(model_requirements)] = _IsolatedProcess(
            home, model_requirements
        )


def dismiss_prepared() -> None:
    """End the processes that `prepare_check` has started and no check has used."""
    while _prepared_processes:
        _prepared_processes.popitem()[1].close()


def _predict_isolated(home: Home, model: str, sample: Path) -> "list[Prediction]":
    """Return the predictions of the registered model in a process that has only its logged requirements."""
    open_client(home)
    model_requirements = requirements.read_logged_requirements(model)
    process = _prepared_processes.pop((tracking_uri(home), frozenset(model_requirements)), None)
    if process is None or not process.is_alive():
        process = _IsolatedProcess(home, model_requirements)
    try:
        return process.predict_sample(model, sample)
    finally:
        process.close()


class _IsolatedProcess:
    """A process without Evertune: it imports the libraries that are linked for it, and waits for a model.

    Args:
        model_requirements: packages that it can import.
    Raises:
        RegistryError: a requirement is not installed, or in another version.
    """

    def __init__(self, home: Home, model_requirements: Sequence[str]) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        self._answer_path = Path(self._scratch.name) / "answer.json"
        packages = Path(self._scratch.name) / "packages"
        requirements.link_packages(model_requirements, packages)
        script = Path(__file__).with_name("parity_process.py")
        # -I and -S: no site-packages, no user site, no PYTHONPATH; only what was linked into `packages`.
        command = [sys.executable, "-I", "-S", *map(str, (script, packages, self._answer_path))]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=_build_environment(home),
            cwd=self._scratch.name,
        )

    def is_alive(self) -> bool:
        """Return whether the process is alive."""
        return self._process.poll() is None

    def predict_sample(self, model: str, sample: Path) -> "list[Prediction]":
        """Return the model's predictions for the sample.

        Args:
            model: its address in MLflow.
        Raises:
            RegistryError: the model cannot be loaded, or does not predict.
        """
        try:
            _, stderr = self._process.communicate(json.dumps([model, str(sample.resolve())]) + "\n", timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise RegistryError(f"it did not answer within {TIMEOUT} s") from error
        if self._process.returncode or not self._answer_path.exists():
            last = (stderr.strip().splitlines() or ["no message"])[-1]
            raise RegistryError(f"it cannot be loaded, or does not predict: {hide_secrets(last)}")
        return cast("list[Prediction]", read_json(self._answer_path))

    def close(self) -> None:
        """End the process and remove its files."""
        self._process.kill()
        self._process.wait()
        self._scratch.cleanup()


def _build_failure(problem: str) -> "Evidence":
    return {"test": "parity", "passed": False, "problem": problem}


def compare_predictions(
    expected: "Sequence[Prediction]", actual: "Sequence[Prediction]", tolerance: float
) -> "Evidence":
    """Return evidence: the share of equal labels, and the largest difference of a probability where labels are equal.

    Args:
        expected, actual: predictions row by row.
        tolerance: largest difference that passes.
    """
    pairs = [(_split_values(old), _split_values(new)) for old, new in zip(expected, actual, strict=False)]
    if not expected and not actual:
        return _build_failure("its recorded sample has no rows left to compare")
    if len(expected) != len(actual) or any(_count_values(tested) != _count_values(served) for tested, served in pairs):
        return _build_failure("it returns other rows or columns")
    labels = list[bool]()
    differences = [0.0]
    for tested, served in pairs:
        matches = [a == b for a, b in zip(tested.labels, served.labels, strict=True)]
        labels += matches
        scores = list(zip(tested.scores, served.scores, strict=True))
        # Either each label has a score, or the scores belong to the whole prediction.
        is_comparable = matches if len(matches) == len(scores) else [all(matches)] * len(scores)
        differences += [abs(a - b) for (a, b), equal in zip(scores, is_comparable, strict=True) if equal]
    agreement = sum(labels) / len(labels) if labels else 1.0
    is_close = all(difference <= tolerance for difference in differences)  # false for NaN
    return {
        "test": "parity",
        "rows": len(expected),
        "agreement": agreement,
        "difference": max(differences),
        "threshold": tolerance,
        "passed": agreement >= AGREEMENT and is_close,
        "problem": None,
    }


@dataclass(frozen=True)
class _Values:
    """The values of a prediction, those in lists too."""

    labels: list[str]
    scores: list[float]


def _count_values(values: _Values) -> tuple[int, int]:
    return len(values.labels), len(values.scores)


def _split_values(prediction: "Prediction") -> _Values:
    values = cast(
        list[str | float],
        [item for value in prediction.values() for item in (value if isinstance(value, list) else [value])],
    )
    return _Values(
        labels=[value for value in values if isinstance(value, str)],
        scores=[value for value in values if not isinstance(value, str)],
    )


def _build_environment(home: Home) -> dict[str, str]:
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracking_uri(home),  # not an argument: `ps` would show its password
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "true",
    }


def describe_failure(result: "Evidence") -> str:
    """Return why a check did not pass.

    Args:
        result: evidence of the check.
    """
    if result["problem"]:
        return str(result["problem"])
    return f"{result['agreement']:.2%} of labels agree, probabilities differ by up to {result['difference']:.2g}"
