"""What a recipe leaves open, its errors, and the best recipe as text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evertune.config import load_recipe, load_search
from evertune.config.search import shorten_paths
from evertune.errors import ConfigError
from evertune.search import recipe_text
from tests.helpers.cli import Done

RATE = "training.learning_rate={search: [1e-5, 1e-3], log: true}"


def test_a_range_and_choices_are_read(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    plan = load_search(
        path,
        [
            RATE,
            "training.epochs={search: [2, 8], step: 4}",
            "training.schedule={search: [linear, cosine]}",
            "training.tokens_per_batch={search: {choices: [256, 512]}}",
            "objective.max_length={search: [16, 32, 64]}",
            "training.warmup={search: [0, 0.25], step: 0.1}",
            "training.freeze={search: {choices: [[], ['*word*']]}}",
            "contract.label.rename={search: find}",
        ],
    )
    told = {one.path: one.description for one in plan.fields}
    assert told == {
        "training.learning_rate": "1e-05 to 0.001, log",
        "training.epochs": "2 to 6, in steps of 4",
        "training.schedule": "linear, cosine",
        "training.tokens_per_batch": "256, 512",
        "objective.max_length": "16, 32, 64",
        "training.warmup": "0 to 0.2, in steps of 0.1",
        "training.freeze": '[], ["*word*"]',
    }
    assert [one.path for one in plan.fields if one.is_whole and not one.choices] == ["training.epochs"]
    assert plan.recipe.training.learning_rate == 1e-5 and plan.recipe.contract.label.rename == {"search": "find"}
    tried = plan.recipe_of({one.path: one.ends[-1] for one in plan.fields})
    assert (tried.training.freeze, tried.training.epochs, tried.objective.max_length) == (["*word*"], 6, 64)
    assert shorten_paths(["training.seed", "a.seed", "a.b"]) == {
        "training.seed": "training.seed",
        "a.seed": "a.seed",
        "a.b": "b",
    }


def test_run_says_to_search_beside_all_other_errors(evertune: Callable[..., Done], tiny_recipe: Any) -> None:
    path = tiny_recipe()
    done = evertune("run", path, "--set", RATE, "--set", "training.epochs=0", "--set", "training.sed=1")
    assert done.status == 2
    assert "3 problems" in done.err
    assert f"training.learning_rate: this is a search, not a value; `evertune search {path}` finds a value" in done.err
    assert "training.epochs: Input should be greater than 0" in done.err and "did you mean seed?" in done.err


BAD = {
    "training.learning_rate={search: [1e-5, 2.0]}": "learning_rate: Input should be less than or equal to 1, not 2.0",
    "training.warmup={search: [0.5, 0.1]}": "the range ends at 0.1, which is not above 0.5",
    "training.weight_decay={search: [0, 0.1], log: true}": "with log: true a range must start above 0, not at 0",
    "training.label_smoothing={search: [0, 0.1], step: 0.2}": "step must be a number above 0 and at most 0.1, not 0.2",
    "training.epochs={search: [1, 8], log: true, step: 1}": "log and step cannot be combined",
    "training.schedule={search: [linear, cosin]}": "unknown value 'cosin'; did you mean cosine?",
    "training.accumulation={search: [1.0, 4.0]}": "takes whole numbers; write the ends of its range without",
    "training.max_grad_norm={search: [1, 2], logg: true}": "unknown key 'logg' next to search; did you mean log?",
    "training.class_weights={search: [none]}": "give at least two choices",
    "training.train_top_layers={search: [1, 1, 2]}": "the choice 1 is repeated",
    "training.precision={search: [auto, bf16, fp32], log: true}": "log is for ranges of two numbers",
    "training.seed={search: {from: 1}}": "not a search; write {search: [low, high]",
    "training.processes={search: [1, 2]}": "cannot be searched",
    "objective.max_lenght={search: [16, 32]}": "unknown key; did you mean max_length?",
    "evaluation.metric={search: [accuracy, f1_macro]}": "cannot be searched, because all trials share rows",
    "data.split.test={search: [0.1, 0.2]}": "data.split.test: cannot be searched",
}


def test_bad_searches_are_found_all_at_once(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_search(path, list(BAD))
    problems = error.value.problems
    assert len(problems) == len(BAD), "\n".join(problems)
    for override, words in BAD.items():
        where = override.partition("=")[0]
        assert any(one.startswith(where) and words in one for one in problems), (words, problems)
    with pytest.raises(ConfigError, match=r"no field is searched; write \{search: "):
        load_search(path)


TEXT = """\
# evertune run old.yaml
#
# What it is for.
name: small  # its name
objective: {type: text-classification}
base_model: model
data: {sources: [{path: "rows/*.csv"}]}
training:   # how
  learning_rate:   # the rate
    search: [1.0e-5, 1.0e-3]
    log: true
  # of the head
  epochs: {search: [1, 4]}  # passes
  freeze: [a]

  seed: 3
# the end
"""


def test_the_best_recipe_keeps_its_comments(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(TEXT)
    plan = load_search(
        tmp_path / "old.yaml",
        ["training.freeze={search: [[b], [c], [d]]}", "data.split.test=0.3", "training.warmup={search: [0.0, 0.5]}"],
    )
    values = {"training.learning_rate": 3e-4, "training.epochs": 2, "training.freeze": ["c"], "training.warmup": 0.125}
    recipe_text.write_recipe(plan, values, tmp_path / "best.yaml", ["Found by a search."])
    assert (
        (tmp_path / "best.yaml").read_text()
        == f"""\
# evertune run {tmp_path}/best.yaml
# Found by a search.
# What it is for.
name: small  # its name
objective: {{type: text-classification}}
base_model: model
data: {{split: {{test: 0.3}}, sources: [{{path: "rows/*.csv"}}]}}
training:   # how
  learning_rate: 0.0003   # the rate
  # of the head
  epochs: 2  # passes
  freeze: [c]

  seed: 3
  warmup: 0.125
# the end
"""
    )
    assert load_recipe(tmp_path / "best.yaml").training == plan.recipe_of(values).training


def test_a_best_recipe_elsewhere_reads_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(TEXT)
    (tmp_path / "model").mkdir()
    plan = load_search(tmp_path / "old.yaml")
    recipe_text.write_recipe(
        plan, {"training.learning_rate": 3e-4, "training.epochs": 2}, tmp_path / "sub" / "b.yaml", []
    )
    found = load_recipe(tmp_path / "sub" / "b.yaml")
    assert (found.base_model, found.data.sources[0].model_dump()["path"]) == ("../model", "../rows/*.csv")


def test_where_a_text_cannot_be_edited_the_recipe_is_written_anew() -> None:
    text = "a: &x {b: 1}\nc: *x\n"
    after = {"a": {"b": 2}, "c": {"b": 1}}
    assert yaml.safe_load(recipe_text.edit_yaml(text, {"a": {"b": 1}, "c": {"b": 1}}, after)) == after
