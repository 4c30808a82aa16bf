"""Versions whose training began at a champion, or ran in several processes, are reproduced as well."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evertune.audit import reproduce as reproduction
from evertune.config import Recipe, load_recipe
from evertune.data import label_names as relabel
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.registry.decisions import ledger
from evertune.registry.versions import versions as models
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.tokenization import tokenize as tokenization
from tasks.finetune import finetune
from tests.helpers.cli import ticket_rows, write_rows
from tests.helpers.data import run as take_in

SECTIONS: dict[str, Any] = {
    "name": "tickets",
    "objective": {"type": "text-classification", "max_length": 32},
    "data": {"sources": [{"path": "rows/*.csv"}], "split": {"validation": 0.1, "test": 0.25}},
    "training": {"epochs": 2, "tokens_per_batch": 256, "precision": "fp32", "learning_rate": 5e-3},
    "evaluation": {"precision": "fp32", "bootstrap": 200},
}


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, model_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe and 80 rows, and a home without versions."""
    import yaml

    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("evertune.registry.versions.parity.prepare_check", lambda *_: None)
    write_rows(tmp_path / "rows" / "a.csv", ticket_rows(80))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**SECTIONS, "base_model": str(tiny_model)}))
    shutil.copytree(model_store.with_name("empty") / "mlflow", tmp_path / "home" / "mlflow")
    return tmp_path


def version_of(one: Recipe, home: Home, meanwhile: Callable[[], object] = lambda: None) -> int:
    """What the steps do up to a registered version that becomes champion; and what others do behind the training."""
    snapshot = relabel.rename_snapshot(take_in(one, home), one)
    rows = relabel.rename_rows(
        splits.exclude_leaked_rows(corpus.read_rows(home, snapshot.version), one.data.split), one
    )
    made = finetune.__wrapped__(tokenization.tokenize_rows(RunContext(one, home), snapshot, rows), one)
    meanwhile()
    met = models.find_champion(home, "tickets")
    version = models.register_version(RunContext(one, home), made, ["a text"])
    ledger.append_event(
        home, "decision", version=version, champion=met, verdict="promoted", run_id=made.run_id, evidence=[]
    )
    models.move_champion(home, "tickets", version, expected=met, reason="a test")
    return version


@pytest.mark.parametrize("train_on", ["new", "replay"])
def test_what_went_on_from_a_champion(project: Path, train_on: str) -> None:
    fresh = {"start_from": "champion", "train_on": train_on}
    one = load_recipe(project / "recipe.yaml", [f"data.fresh.{name}={value}" for name, value in fresh.items()])
    home = Home(project / "home", "tickets")
    assert version_of(one, home) == 1
    write_rows(project / "rows" / "b.csv", ticket_rows(60, start=80))
    assert version_of(one, home) == 2
    write_rows(project / "rows" / "c.csv", ticket_rows(40, start=140))
    assert version_of(one, home) == 3  # which version 2 is not to be taken for
    for version in (1, 2):
        found = reproduction.reproduce_version(RunContext(one, home), version)
        assert (found.verdict, found.weights, found.missing) == ("identical", 0.0, ()), version


def test_it_begins_where_it_began_whatever_champion_was_met_later(project: Path) -> None:
    one = load_recipe(project / "recipe.yaml", ["data.fresh.start_from=champion"])
    home = Home(project / "home", "tickets")
    for version, name in enumerate("abc", 1):
        write_rows(project / "rows" / f"{name}.csv", ticket_rows(80, start=80 * version))
        back = partial(models.move_champion, home, "tickets", 1, expected=2, reason="a test")
        assert version_of(one, home, back if version == 3 else lambda: None) == version
    found = reproduction.reproduce_version(RunContext(one, home), 3)
    assert (found.verdict, found.missing) == ("identical", ())


def test_what_two_processes_made(project: Path) -> None:
    one = load_recipe(project / "recipe.yaml", ["training.processes=2"])
    home = Home(project / "home", "tickets")
    found = reproduction.reproduce_version(RunContext(one, home), version_of(one, home))
    assert (found.verdict, found.missing) == ("identical", ())
