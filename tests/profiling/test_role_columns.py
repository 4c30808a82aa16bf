"""`evertune new` for any objective: columns that are called like its roles are taken."""

import json
from pathlib import Path
from typing import Any

import pytest

from evertune.config import load_recipe
from evertune.data.sources import read as sources
from evertune.errors import DataError
from evertune.objectives import TABLE, load_objective
from evertune.profiling.guess import Guess
from evertune.profiling.profile import inspect_data, render_recipe
from evertune.tokenization import tokenize as tokenization
from tests.helpers.objective_samples import SAMPLES


def told(folder: Path, rows: list[dict[str, Any]], **given: str) -> Guess:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return inspect_data(folder / "rows.jsonl", **given)


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_is_written_for_every_objective(name: str, tmp_path: Path) -> None:
    rows = [{"number": n, **row} for n, row in enumerate(SAMPLES[name]["rows"](60))]
    guess = told(tmp_path, rows, objective=name)
    objective = load_objective(name)
    assert {role: guess.columns[role] for role in objective.COLUMNS} == {role: role for role in objective.COLUMNS}
    assert set(guess.labels) == set(SAMPLES[name].get("labels", SAMPLES[name]["names"]))
    (tmp_path / "some.yaml").write_text(render_recipe("some", "rows.jsonl", guess))
    recipe = load_recipe(tmp_path / "some.yaml")
    assert recipe.objective.type == name and recipe.base_model == getattr(objective, "BASE_MODEL", recipe.base_model)
    if not recipe.base_model.startswith("champion:"):  # which this project has none of
        tokenization.load_tokenizer(recipe)  # the base model fits
    assert all(piece.table.num_rows == 60 for piece in sources.read_sources(recipe, {}))


def test_other_names_of_a_role_and_given_columns_are_taken(tmp_path: Path) -> None:
    rows = [{"Instruction": f"Say {n}", "response": f"{n}!", "output": "x"} for n in range(9)]
    assert told(tmp_path, rows, objective="chat").columns == {"prompt": "Instruction", "answer": "response"}
    given = told(tmp_path, rows, objective="chat", label="output")
    assert given.columns == {"prompt": "Instruction", "answer": "output"} and given.why["answer"] == "given"
    with pytest.raises(
        DataError, match=r"--text nothing: no such column in .*rows.jsonl; columns: Instruction, response"
    ):
        told(tmp_path, rows, objective="chat", text="nothing")
    with pytest.raises(DataError, match=r"no column is named target; name it with --label COL. The columns:\n  sour"):
        told(tmp_path, [{"source": "a", "other": "b"}], objective="seq2seq")
    with pytest.raises(DataError, match=r"no column is named question; rename it, or map it in data.columns.question"):
        told(tmp_path, [{"context": "a", "answer": "b"}], objective="question-answering")


def test_a_dialogue_is_a_prompt_and_no_list_of_words(tmp_path: Path) -> None:
    prompt = json.dumps([{"role": "user", "content": "Hi"}])
    assert told(tmp_path, [{"prompt": prompt, "answer": "Hello"}] * 3, objective="chat").rows == 3


def test_plain_text_is_for_a_language_model(tmp_path: Path) -> None:
    (tmp_path / "play.txt").write_text("\n\n".join(f"A:\nGo {n} times." for n in range(300)))
    guess = inspect_data(tmp_path / "play.txt", objective="causal-lm")
    assert (guess.columns, guess.rows) == ({"text": "text"}, 300)
    (tmp_path / "play.yaml").write_text(render_recipe("play", "play.txt", guess))
    (piece,) = sources.read_sources(load_recipe(tmp_path / "play.yaml"), {})
    assert 3 < piece.table.num_rows < 10  # put together to some length
