"""What was tested is what is served: the check in a fresh process, and the registered model in strangers' hands."""

import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from evertune.registry.decisions import ledger, promotion
from evertune.registry.tracking import store
from evertune.registry.versions import parity, requirements
from evertune.registry.versions import versions as models
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from tests.helpers.registry import INPUTS, PROMOTED, Shop, evaluation

STRANGER = """
import json, sys
sys.modules["evertune"] = None
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
frame = pd.DataFrame(json.loads(sys.argv[3]))
example = model.input_example
print(json.dumps({
    "answers": model.predict(frame).to_dict("records"), "example": model.predict(example).to_dict("records"),
    "inputs": model.metadata.signature.inputs.to_dict(), "outputs": model.metadata.signature.outputs.to_dict(),
}))
"""


def prepend(file: str, code: str) -> Callable[[Path], None]:
    def edit(bundle: Path) -> None:
        path = bundle / "code" / file
        path.write_text(f"{code}\n{path.read_text()}")

    return edit


def other_weights(bundle: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = bundle / "model" / "model.safetensors"
    save_file({name: -tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_parity")
def test_a_good_model_passes_and_answers_strangers(shop: Shop) -> None:
    made, version = shop.registered()
    decision = promotion.apply_decision(RunContext(shop.recipe, shop.home), made, evaluation(), PROMOTED, version)
    found = decision.evidence[-1]
    assert (decision.verdict, found["passed"], found["agreement"]) == ("promoted", True, 1.0)
    assert found["rows"] == len(INPUTS)
    assert (shop.champion(), shop.tag(version, "parity")) == (version, made.digest)
    uri = f"models:/{shop.name}@champion"
    command = [sys.executable, "-c", STRANGER, store.tracking_uri(shop.home), uri, json.dumps({"text": INPUTS})]
    answered = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    tested = read_json(Path(made.run_folder) / "parity.json")["predictions"]
    assert parity.compare_predictions(tested, answered["answers"], 1e-4)["passed"]
    assert parity.compare_predictions(tested[:3], answered["example"], 1e-4)["passed"]
    assert [(one["name"], one["type"]) for one in answered["inputs"]] == [("text", "string")]
    assert [one["name"] for one in answered["outputs"]] == ["label", "score"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (other_weights, "of labels agree"),
        (prepend("inference.py", "import evertune"), "No module named 'evertune'"),
        (prepend("batching.py", "import prefect"), "No module named 'prefect'"),
        (prepend("inference.py", "import sys\nif sys.flags.isolated: raise MemoryError('too large')"), "too large"),
        (
            prepend("inference.py", "import sys\nif sys.flags.isolated: sys.exit(0)"),
            "cannot be loaded, or does not predict",
        ),
    ],
    ids=["weights", "evertune", "package", "raises", "ends"],
)
def test_a_model_that_is_not_what_was_tested_is_held(shop: Shop, edit: Callable[[Path], None], words: str) -> None:
    first = shop.checked()
    models.move_champion(shop.home, shop.name, first, expected=None, reason="test")
    made, version = shop.registered(edit)
    decision = promotion.apply_decision(RunContext(shop.recipe, shop.home), made, evaluation(first), PROMOTED, version)
    assert decision.verdict == "held"
    assert words in decision.reason
    assert decision.evidence[-1]["passed"] is False
    assert shop.champion() == first
    assert (shop.tag(version, "decision"), shop.tag(version, "parity")) == ("held", None)
    assert [one["event"] for one in ledger.read_entries(shop.home)][-1] == "decision"


def test_a_registered_model_whose_files_are_gone_is_held(shop: Shop) -> None:
    made, version = shop.registered()
    (models.fetch_bundle(shop.home, shop.name, version).parent.parent / "requirements.txt").unlink()
    decision = promotion.apply_decision(RunContext(shop.recipe, shop.home), made, evaluation(), PROMOTED, version)
    assert decision.verdict == "held"
    assert "requirements" in decision.reason
    assert shop.champion() is None


def answer(label: str = "card", score: float = 0.5) -> dict[str, Any]:
    return {"label": label, "score": score}


@settings(deadline=None)
@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    shift=st.one_of(st.floats(-0.01, 0.01), st.just(math.nan)),
    tolerance=st.sampled_from([1e-4, 0.003]),
)
def test_probabilities_must_be_near_and_numbers(scores: list[float], shift: float, tolerance: float) -> None:
    old = [answer(score=one) for one in scores]
    new = [answer(score=one + shift) for one in scores]
    close = all(abs(b["score"] - a["score"]) <= tolerance for a, b in zip(old, new, strict=True))
    assert parity.compare_predictions(old, new, tolerance)["passed"] is close
    assert parity.compare_predictions(old, old, tolerance)["passed"] is True


@pytest.mark.parametrize(("rows", "wrong", "passed"), [(1000, 1, True), (1000, 2, False), (10, 1, False)])
def test_labels_must_agree(rows: int, wrong: int, passed: bool) -> None:
    # the probability of another label is not compared
    new = [*(answer("refund", 0.9) for _ in range(wrong)), *(answer() for _ in range(rows - wrong))]
    assert parity.compare_predictions([answer()] * rows, new, 1e-4)["passed"] is passed


@pytest.mark.parametrize("new", [[], [answer()], [answer(), {"label": "card"}], [answer(), {"score": 0.5}]])
def test_other_rows_or_columns_do_not_pass(new: list[dict[str, Any]]) -> None:
    found = parity.compare_predictions([answer(), answer()], new, 1e-4)
    assert (found["passed"], found["problem"]) == (False, "it returns other rows or columns")


def test_a_sample_of_no_row_does_not_pass() -> None:
    found = parity.compare_predictions([], [], 1e-4)
    assert (found["passed"], found["problem"]) == (False, "its recorded sample has no rows left to compare")


def test_lists_of_tags_are_compared_one_by_one() -> None:
    old = [{"tags": ["O", "B-LOC"], "scores": [0.9, 0.8]}]
    assert parity.compare_predictions(old, old, 1e-4)["agreement"] == 1.0
    assert parity.compare_predictions(old, [{"tags": ["O", "O"], "scores": [0.9, 0.8]}], 1e-4)["agreement"] == 0.5
    assert not parity.compare_predictions(old, [{"tags": ["O"], "scores": [0.9]}], 1e-4)["passed"]


def test_only_what_a_model_requires_is_on_its_path(tmp_path: Path) -> None:
    requirements.link_packages(["pydantic>=2"], tmp_path / "packages")
    there = {path.name for path in (tmp_path / "packages").iterdir()}
    assert {"pydantic", "pydantic_core", "annotated_types"} <= there
    assert not there & {"evertune", "numpy", "torch", "click"}


def test_a_requirement_in_another_version_or_missing_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = tmp_path / "parity.json"
    sample.write_text('{"role": "text", "inputs": [], "predictions": []}')
    monkeypatch.setattr(
        "evertune.registry.versions.requirements.read_logged_requirements",
        lambda _: ["pydantic==1.0", "no-such-package==1"],
    )
    found = parity.check_parity(Home(tmp_path / "home", "small"), "small", 1, sample, "fp32")
    assert (found["test"], found["passed"]) == ("parity", False)
    assert f"the model requires pydantic==1.0, but {version('pydantic')} is installed" in found["problem"]
    assert "the model requires no-such-package==1, which is not installed" in found["problem"]


@pytest.mark.parametrize(
    ("installed", "wanted", "good"),
    [
        ("2.13.0+cpu", "torch==2.13.0", True),
        ("2.13.0", "torch==2.13.0", True),
        ("2.13.1", "torch==2.13.0", False),
        ("2.13.0+cpu", "torch==2.13.0+cu128", False),
        ("2.14.0.dev1", "torch>=2.13", True),
        ("1.0", "torch", True),
    ],
)
def test_a_local_version_satisfies_its_public_one(
    monkeypatch: pytest.MonkeyPatch, installed: str, wanted: str, good: bool
) -> None:
    monkeypatch.setattr("evertune.registry.versions.requirements.version", lambda _: installed)
    assert (requirements._find_problem(Requirement(wanted)) is None) is good


@pytest.mark.slow
def test_mlflow_serves_the_champion(shop: Shop, tmp_path: Path) -> None:
    made, version = shop.registered()
    models.move_champion(shop.home, shop.name, version, expected=None, reason="test")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"models:/{shop.name}@champion"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store.tracking_uri(shop.home), "PATH": path}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        answered = _post(server, port, {"dataframe_records": [{"text": one} for one in INPUTS]})
    finally:
        os.killpg(server.pid, 9)
        server.wait()
    tested = read_json(Path(made.run_folder) / "parity.json")["predictions"]
    assert parity.compare_predictions(tested, answered["predictions"], 1e-4)["passed"]


def _post(server: subprocess.Popen[bytes], port: int, body: Any) -> Any:
    where = f"http://127.0.0.1:{port}/invocations"
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(where, json.dumps(body).encode(), kind)
    while server.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"the server ended with {server.returncode}")
