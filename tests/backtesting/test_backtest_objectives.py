"""The past of every objective of the table, replayed with a tiny model: nothing here knows any of them by name."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from evertune import objectives
from evertune.backtesting import backtest
from evertune.backtesting.kept_scores import list_models
from evertune.config import Recipe, load_recipe
from evertune.data import admission
from evertune.data.corpus import transactions as corpus
from evertune.data.sources import read as sources
from evertune.errors import DataError
from evertune.records import to_plain
from evertune.report.pages import backtest as pages
from evertune.runtime.context import RunContext
from evertune.runtime.home import home_of
from tests.helpers.objective_samples import SAMPLES, short

pytestmark = pytest.mark.slow

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)
WEEKS = 4
ROWS = 30


def project(folder: Path, name: str, base: Path, **gate: int) -> Recipe:
    """A recipe in the folder, and some weeks of rows for it."""
    rows = [
        {**row, "at": (MONDAY + timedelta(days=7 * (number // ROWS))).isoformat()}
        for number, row in enumerate(SAMPLES[name]["rows"](WEEKS * ROWS))
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "name": "every",
        "objective": {"type": name, **short(name, 32), **SAMPLES[name].get("options", {})},
        "base_model": str(SAMPLES[name].get("base", lambda _: base)(folder)),
        "data": {
            "sources": [{"path": "rows.jsonl"}],
            "columns": {"timestamp": "at"},
            "split": {"validation": 0.1, "test": 0.3, "near_duplicate": None},
        },
        "training": {"epochs": 1, "learning_rate": 5e-3, "tokens_per_batch": 512, "precision": "fp32"},
        "evaluation": {"precision": "fp32", "bootstrap": 200, "gate": {"min_rows": 5, **gate}},
        "contract": {"tolerance": 0.5},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return load_recipe(folder / "recipe.yaml")


def replayed(recipe: Recipe) -> backtest.Result:
    home = home_of(recipe)
    batch = corpus.ingest_rows(RunContext(recipe, home), lambda seen: sources.read_sources(recipe, seen))
    snapshot = admission.admit_batch(batch, RunContext(recipe, home))[0]
    policies = backtest.parse_policies("gated,drift")
    return backtest.run_backtest(RunContext(recipe, home), snapshot, "week", policies, lambda _: "run", lambda _: None)


@pytest.mark.parametrize("name", objectives.TABLE)
def test_every_objectives_past_is_replayed(
    name: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "home"))
    recipe = project(tmp_path, name, tiny_model)
    found = replayed(recipe)
    assert (found.first, len(found.windows)) == (2, WEEKS)
    steps = {(step.policy, step.window): step for step in found.steps}
    assert len(steps) == len(found.steps) == 4
    assert all(isinstance(step.metrics[recipe.metric], float) and step.rows == ROWS for step in found.steps)
    assert steps["gated", 3].retrained and steps["gated", 3].verdict in {"promoted", "held", "rejected"}
    seen = steps["drift", 3].drift
    assert seen is not None and 0 < seen <= 1
    assert found.sentence.startswith(f"{found.recommended}: mean {recipe.metric} ")
    models = list_models(Path(found.folder).parents[1] / "scores")
    assert len(models) == 2
    for model in models:  # every objective has a score of each row, which the gate weighs
        assert model.scores is not None and len(model.scores.log) == WEEKS * ROWS
        assert np.isfinite(model.scores.log).all() and (model.scores.log <= 0).all()
        assert (model.scores.sizes > 0).any()
    assert found.sentence in pages.write_backtest_page(tmp_path / "page", to_plain(found), name).read_text()


@pytest.mark.parametrize(("name", "words"), [("masked-lm", "a train row"), ("multi-label", "train rows of two labels")])
def test_too_few_rows_are_told_by_what_the_objective_needs(
    name: str, words: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "home"))
    with pytest.raises(DataError, match=rf"has 99 test rows \(evaluation.gate.min_rows\) and {words} before its end"):
        replayed(project(tmp_path, name, tiny_model, min_rows=99))
