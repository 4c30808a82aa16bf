"""Every objective of the table through its whole life with a tiny model: nothing here knows any of them by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evertune import objectives
from evertune.config import Recipe, load_recipe
from evertune.data.sources import read as sources
from evertune.errors import TrainingError
from evertune.records import Outcome
from evertune.registry.versions import parity
from evertune.registry.versions import versions as models
from evertune.runtime.files import read_json
from evertune.runtime.home import home_of
from evertune.serving import bundle, scoring
from tests.helpers.objective_samples import SAMPLES, short

ROWS = 90


@pytest.fixture(params=objectives.TABLE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def project(folder: Path, name: str, base: Path) -> Recipe:
    """A recipe in the folder, and rows for it."""
    write(folder, name, 0, ROWS)
    tree: dict[str, Any] = {
        "name": "every",
        "objective": {"type": name, **short(name, 32), **SAMPLES[name].get("options", {})},
        "base_model": str(SAMPLES[name].get("base", lambda _: base)(folder)),
        "data": {"sources": [{"path": "rows*.jsonl"}], "split": {"validation": 0.2, "test": 0.3}},
        "training": {
            "epochs": 2,
            "learning_rate": 5e-3,
            "tokens_per_batch": 512,
            "precision": "fp32",
            "checkpoint_steps": 2,
        },
        "evaluation": {"precision": "fp32", "bootstrap": 200, "gate": {"min_rows": 10}},
        "contract": {"tolerance": 0.5},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return load_recipe(folder / "recipe.yaml")


def write(folder: Path, name: str, start: int, count: int) -> None:
    rows = SAMPLES[name]["rows"](count, start)
    (folder / f"rows{start}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_every_objective_lives_through_two_retrains_a_crash_and_a_file_to_score(
    name: str,
    tmp_path: Path,
    tiny_model: Path,
    model_store: Path,
    retrain: Callable[[Recipe], Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(model_store.with_name("empty"), tmp_path / "home")
    recipe = project(tmp_path, name, tiny_model)
    objective = objectives.load_objective(name)
    home = home_of(recipe)

    def broken(*_: Any, **__: Any) -> str:
        raise TrainingError("the disk is full")

    with monkeypatch.context() as patch:  # ends where the weights are learned and not yet written
        patch.setattr("evertune.serving.bundle.write_bundle", broken)
        with pytest.raises(TrainingError, match="the disk is full"):
            retrain(recipe)
    kept = list(home.runs.glob("*/checkpoints/checkpoint-*"))
    first = retrain(recipe)
    assert kept and first.version == 1 and first.rows["refused"] == 0, first
    assert first.metrics["test"].keys() == set(objective.METRICS)
    assert all(value is not None for value in first.metrics["test"].values()), first.metrics
    if first.decision != "promoted":
        models.move_champion(home, recipe.registered_name, 1, expected=None, reason="test")

    write(tmp_path, name, ROWS, 60)
    second = retrain(recipe)
    assert (second.version, second.champion_version) in {(2, 1), (2, 2)}, second
    alike = "both models score the same" in second.reason
    weighed = {check["test"]: check.get("metric") for check in second.evidence}
    assert alike or weighed["expected"] in {"score", "log score"}, second
    assert Path(second.report).stat().st_size < 2_000_000

    chunks = sources.read_inputs(tmp_path / "rows0.jsonl", recipe)
    champion = models.fetch_bundle(home, recipe.registered_name, 1)
    sample = read_json(Path(first.report).parent.parent / "parity.json")
    inputs = [tuple(one) if isinstance(one, list) and len(objective.INPUTS) > 1 else one for one in sample["inputs"]]
    again = bundle.load_predictor(champion).predict(inputs)
    assert parity.compare_predictions(sample["predictions"], again, 1e-4)["passed"]
    assert not parity.compare_predictions(
        sample["predictions"], bundle.load_predictor(champion).predict(inputs[::-1]), 1e-9
    )["passed"]
    done = scoring.score_file(champion, 1, chunks, "input", tmp_path / "scores.jsonl", lambda _: None)
    scored = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert (done.rows, done.bad) == (ROWS, 0) and objective.OUTPUTS.keys() <= scored[0].keys()
