"""What cannot work is told by `evertune check`, before any training, for every objective of the table."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evertune import objectives
from evertune.data.sources import read as sources
from evertune.profiling.preview_rows import judge_sample, sample_rows
from evertune.serving import scoring
from tests.helpers.cli import Done
from tests.helpers.model import split_rows, train
from tests.helpers.objective_samples import SAMPLES
from tests.helpers.picture import write_tiny_vision
from tests.objectives.test_every_objective import project

# Of each kind of column a cell that is none, beside a missing one.
WRONG = {"string": ["a list"], "strings": 5, "labels": 5, "number": "many", "span": 5, "image": "é"}
OTHER_KIND = "has no tokenizer|takes texts, not pictures|does not make codes of pictures|is not a first stage"
Command = Callable[..., Done]


@pytest.fixture(params=objectives.TABLE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def wrong_bases(tmp_path: Path, tiny_model: Path) -> dict[str, Path]:
    """What is wrong with a base model -> its folder."""
    found = {one: tmp_path / one.replace(" ", "-") for one in ("names no model_type", "cannot be read", "is damaged")}
    for folder in found.values():
        shutil.copytree(tiny_model, folder)
    (found["names no model_type"] / "config.json").write_text("{}")
    (found["cannot be read"] / "config.json").write_text('{"model_type": ')
    weights = found["is damaged"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return found


def test_a_base_model_that_cannot_serve_is_named(
    name: str, tmp_path: Path, tiny_model: Path, wrong_bases: dict[str, Path], evertune: Command
) -> None:
    objective = objectives.load_objective(name)
    project(tmp_path, name, tiny_model)
    (tmp_path / "other").mkdir()
    pictures = objective.has_own_tokenizer
    wrong_bases[OTHER_KIND] = tiny_model if pictures else write_tiny_vision(tmp_path / "other")
    if not pictures and not objective.STARTS_AT_RANDOM:
        bare = wrong_bases["has no weights"] = shutil.copytree(tiny_model, tmp_path / "bare")
        (bare / "model.safetensors").unlink()
    for problem, base in wrong_bases.items():
        done = evertune("check", tmp_path / "recipe.yaml", "--set", f"base_model={base}")
        assert done.status == 2 and f"base_model: {base}: " in done.err, (problem, done)
        assert any(one in done.err for one in problem.split("|")), (problem, done.err)


def test_each_bad_cell_is_refused_and_its_column_named(name: str, tmp_path: Path, tiny_model: Path) -> None:
    recipe = project(tmp_path, name, tiny_model)
    kinds = objectives.load_objective(name).COLUMNS
    given = SAMPLES[name]["rows"](30)
    bad = [(role, {**given[0], role: cell}) for role, kind in kinds.items() for cell in (None, WRONG[kind])]
    rows = [*given, *(row for _, row in bad)]
    (tmp_path / "rows0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    verdicts = judge_sample(sample_rows(recipe, 1000), recipe)
    assert verdicts.rows == len(given)
    said = {row["source_row"]: row["reasons"] for row in verdicts.refused.to_pylist()}
    for place, (role, _) in enumerate(bad, len(given)):
        assert any(one.startswith(f"{role}: ") or f"column {role}: " in one for one in said[place]), (role, said)


def test_a_row_that_makes_no_sense_says_so_of_itself(tmp_path: Path, tiny_model: Path) -> None:
    recipe = project(tmp_path, "question-answering", tiny_model)
    row = SAMPLES["question-answering"]["rows"](1)[0]
    spans = ({"start": 900, "text": "John"}, {"start": -1, "text": "a"}, {"text": "Mary"}, {"text": " "})
    lines = [{**row, "answer": json.dumps(span)} for span in spans]
    (tmp_path / "rows0.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    refused = judge_sample(sample_rows(recipe, 10), recipe).refused["reasons"].to_pylist()
    context = f"in the context of {len(row['context'])} characters"
    assert refused == [
        [f"the answer 'John' is not at 900 {context}"],
        [f"the answer 'a' is not at -1 {context}"],
        ["the answer 'Mary' is not in the context"],
        ["the answer is empty"],
    ]


def test_a_column_that_is_not_there_is_named(name: str, tmp_path: Path, tiny_model: Path, evertune: Command) -> None:
    project(tmp_path, name, tiny_model)
    for role in objectives.load_objective(name).COLUMNS:
        done = evertune("check", tmp_path / "recipe.yaml", "--set", f"data.columns.{role}=nothing")
        assert done.status == 3 and "nothing: no such column in rows0.jsonl" in done.err
        assert f"data.columns.{role}" in done.err


@pytest.mark.parametrize(
    ("name", "training", "message"),
    [
        ("text-classification", {"freeze": ["nothing.*"]}, "training.freeze: 'nothing.*' matches no parameter"),
        ("pair-regression", {"train_top_layers": 9}, "training.train_top_layers: 9, but the model has 2 layers"),
        ("image-tokens", {"train_top_layers": 1}, "the base model has no single stack of layers"),
        ("seq2seq", {"train_top_layers": 1}, "the base model has no single stack of layers"),
        ("image-tokens", {"layer_decay": 0.9}, "the base model has no single stack of layers"),
        ("seq2seq", {"layer_decay": 0.9}, "the base model has no single stack of layers"),
        ("image-classification", {"mixout": 0.1}, "training.mixout: the base model has no linear layers"),
        ("seq2seq", {"student": {"layers": 1}}, "training.student: the base model has no single stack of layers"),
        ("chat", {"student": {"layers": 9}}, "training.student.layers: 9, but the base model has 1"),
        ("chat", {"class_weights": "balanced"}, "training.class_weights: the targets of chat are not labels"),
        ("text-to-image", {"method": "lora"}, "training.method: works on token ids, which text-to-image does not use"),
    ],
)
def test_training_that_does_not_fit_the_model_is_told(
    name: str, training: dict[str, Any], message: str, tmp_path: Path, tiny_model: Path, evertune: Command
) -> None:
    project(tmp_path, name, tiny_model)
    tree = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**tree, "training": {**tree["training"], **training}}))
    done = evertune("check", tmp_path / "recipe.yaml")
    assert done.status == 2 and message in done.err


def test_a_row_that_makes_no_sense_does_not_end_the_scoring_of_the_others(tmp_path: Path, tiny_model: Path) -> None:
    recipe = project(tmp_path, "chat", tiny_model)
    made = train(recipe, tmp_path / "run", split_rows(SAMPLES["chat"]["rows"](20)), ())
    prompts = ["Hi", '[{"role": "user"', '[{"role": "assistant", "content": "Hi"}]', " "]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in prompts))
    chunks = sources.read_inputs(tmp_path / "in.jsonl", recipe)
    done = scoring.score_file(Path(made.bundle), 1, chunks, "prompt", tmp_path / "out.jsonl", lambda _: None)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (done.rows, done.bad) == (4, 3) and rows[0]["problem"] is None and rows[0]["answer"] is not None
    assert rows[1]["problem"].startswith("the prompt is not a dialogue")
    assert [row["problem"] for row in rows[2:]] == [
        "the last message of the prompt is by the assistant",
        "prompt is empty",
    ]


def test_two_roles_are_not_read_from_one_column(tmp_path: Path, tiny_model: Path, evertune: Command) -> None:
    project(tmp_path, "chat", tiny_model)
    done = evertune("check", tmp_path / "recipe.yaml", "--set", "data.columns.answer=prompt")
    assert done.status == 2 and "data.columns: several roles are read from prompt" in done.err
