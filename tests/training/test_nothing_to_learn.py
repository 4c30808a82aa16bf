"""Rows that came since the champion and teach nothing: a quiet night, not a failed one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evertune.config import Recipe, load_recipe
from evertune.data.sources import read as sources
from evertune.errors import DataError
from evertune.records import Outcome
from evertune.registry.decisions import ledger
from evertune.registry.tracking.store import open_client
from evertune.registry.versions import versions as models
from evertune.runs import up_to_date as conclusion
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home, home_of
from tests.helpers.objective_samples import texts

pytestmark = pytest.mark.slow

LABEL = "refund"
Retrain = Callable[[Recipe], Outcome]


def written(folder: Path, train_on: str, base: Path, **training: Any) -> Recipe:
    """A recipe with files for train rows and files for sealed ones, one of each."""
    tree = {
        "name": "quiet",
        "objective": {"type": "text-classification", "max_length": 32},
        "base_model": str(base),
        "data": {
            "sources": [{"path": "train*.jsonl", "split": "train"}, {"path": "test*.jsonl", "split": "test"}],
            "fresh": {"train_on": train_on},
        },
        "training": {"epochs": 1, "learning_rate": 5e-3, "tokens_per_batch": 512, "precision": "fp32", **training},
        "evaluation": {"precision": "fp32", "bootstrap": 200, "gate": {"min_rows": 5}},
        "contract": {"tolerance": 0.5, "label": {"max_share": 1}},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return load_recipe(folder / "recipe.yaml")


def write(folder: Path, name: str, start: int, count: int, only: str | None = None) -> None:
    rows = [row for row in texts(count, start) if only is None or row["label"] == only]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def first(tmp_path: Path, tiny_model: Path, model_store: Path, retrain: Retrain) -> Callable[..., Recipe]:
    """Runs a recipe for the first time; its version 1 is champion."""
    shutil.copytree(model_store.with_name("empty"), tmp_path / "home")
    write(tmp_path, "train", 0, 60)
    write(tmp_path, "test", 60, 30)

    def run(train_on: str) -> Recipe:
        recipe = written(tmp_path, train_on, tiny_model)
        if retrain(recipe).decision != "promoted":
            models.move_champion(home_of(recipe), recipe.registered_name, 1, expected=None, reason="test")
        return recipe

    return run


def runs(home: Home) -> int:
    mlflow = open_client(home)
    return len(mlflow.search_runs([mlflow.get_experiment_by_name(home.name).experiment_id]))


@pytest.mark.parametrize("train_on", ["new", "replay"])
def test_a_night_of_test_rows_alone_is_quiet_and_its_rows_are_kept(
    train_on: str, first: Callable[[str], Recipe], tmp_path: Path, retrain: Retrain
) -> None:
    recipe = first(train_on)
    home = home_of(recipe)
    before = runs(home)
    write(tmp_path, "test2", 90, 12)
    for _ in range(2):  # the next night, nothing having come, is as quiet
        found = retrain(recipe)
        assert (found.decision, found.version, found.champion_version) == ("unchanged", 1, 1)
        assert found.reason.startswith(f"no train rows newer than the champion; data.fresh.train_on is {train_on}")
        assert (found.rows["new"], found.snapshot["rows"]["test"]) == (12, 42)
    last = ledger.read_entries(home)[-1]
    assert (last["event"], last["reason"], runs(home)) == ("unchanged", found.reason, before)
    write(tmp_path, "train2", 102, 30)
    found = retrain(recipe)
    assert (found.version, found.rows["new"], found.rows["accepted"]) == (2, 42, 42)


def test_new_rows_of_one_label_wait_for_others(
    first: Callable[[str], Recipe], tmp_path: Path, retrain: Retrain
) -> None:
    recipe = first("new")
    write(tmp_path, "train2", 90, 12, only=LABEL)
    found = retrain(recipe)
    assert found.decision == "unchanged"
    assert found.reason.startswith(f"the train rows newer than the champion have only one label, '{LABEL}'")


def test_an_edited_recipe_without_new_rows_trains_nothing_and_is_done(
    first: Callable[[str], Recipe], tmp_path: Path, tiny_model: Path, retrain: Retrain
) -> None:
    first("new")
    edited = written(tmp_path, "new", tiny_model, label_smoothing=0.1)
    found = retrain(edited)
    assert (found.decision, found.rows["new"]) == ("unchanged", 0)
    home = home_of(edited)
    assert [one["event"] for one in ledger.read_entries(home)[-2:]] == ["recipe", "unchanged"]
    assert conclusion.check_before_start(RunContext(edited, home), sources.fingerprints) is not None


def test_a_first_run_without_train_rows_is_an_error(
    tmp_path: Path, tiny_model: Path, model_store: Path, retrain: Retrain
) -> None:
    shutil.copytree(model_store.with_name("empty"), tmp_path / "home")
    write(tmp_path, "train", 0, 30, only=LABEL)
    write(tmp_path, "test", 60, 30)
    with pytest.raises(DataError, match=r"the train rows have only one label, 'refund', .*; add rows$"):
        retrain(written(tmp_path, "new", tiny_model))
