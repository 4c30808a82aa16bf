"""A project whose rows are taken in, ready to be searched."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evertune.config import Plan, load_search
from evertune.records import Snapshot
from evertune.runs.ingest import ingest_sources
from evertune.runtime.context import open_context
from evertune.runtime.home import Home, home_of
from evertune.search import search
from evertune.search.search import Limits, Result
from tests.helpers.cli import Project, ticket_rows, write_rows

TRIALS = 4
TRAINING = {
    "epochs": 3,
    "precision": "fp32",
    "warmup": 0.0,
    "tokens_per_batch": {"search": [256, 512, 1024]},
    "learning_rate": {"search": [1e-4, 2e-2], "log": True},
}


@dataclass(frozen=True)
class Shop:
    """A project whose rows are taken in, and its home.

    Args:
        seen: versions of the rows that trainings and tokenizations were given.
    """

    plan: Plan
    snapshot: Snapshot
    seen: set[str]

    @property
    def home(self) -> Home:
        return home_of(self.plan.recipe)

    @property
    def path(self) -> Path:
        return self.plan.recipe.folder / "recipe.yaml"

    def run(self, **limits: Any) -> Result:
        return search.run_search(self.plan, self.home, self.snapshot, Limits(**{"trials": TRIALS, **limits}))

    def folder(self) -> Path:
        return next((self.home.model / "searches").iterdir())


def taken(folder: Path, tiny_model: Path, model_store: Path, patch: pytest.MonkeyPatch) -> Shop:
    shutil.copytree(model_store.with_name("empty"), folder / "home")
    write_rows(folder / "rows" / "a.csv", ticket_rows(150))
    plan = load_search(Project(folder, tiny_model, "").write(training=TRAINING).recipe)
    patch.setenv("EVERTUNE_HOME", str(folder / "home"))
    return Shop(plan, ingest_sources(open_context(plan.recipe)), set())
