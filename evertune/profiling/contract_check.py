"""Put rows through the contract of a recipe before it is written, so that its numbers are measured, not guessed."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from evertune.config import Recipe
from evertune.data.contract import judge
from evertune.profiling.preview_rows import judge_sample, sample_rows
from evertune.profiling.recipe_writer import render_recipe

if TYPE_CHECKING:
    from evertune.profiling.guess import Guess

ROWS = 50_000  # that go through the contract, evenly spaced
DAMAGE = ("control character", "encoding damage")
MANY = 0.2  # share of damaged rows from which damage is normal in these data: such rows are kept


def try_contract(name: str, data_path: str, guess: "Guess", folder: Path) -> "Guess":
    """Return the guess with the rows that its contract refuses, and the problems that would stop a run.

    Args:
        name: of the recipe.
        data_path: as the recipe will have it, relative to `folder`.
        guess: what was inferred so far.
        folder: of the recipe.
    Raises:
        ConfigError: the name cannot be a recipe's name.
        DataError: the rows cannot be read.
    """
    rows = sample_rows(_parse_recipe(name, data_path, guess, folder), ROWS)
    verdicts = judge_sample(rows, _parse_recipe(name, data_path, guess, folder))
    if sum(verdicts.reasons.get(kind, 0) for kind in DAMAGE) > MANY * len(rows.table):
        guess = replace(guess, characters="keep")
        verdicts = judge_sample(rows, _parse_recipe(name, data_path, guess, folder))
    share = len(verdicts.refused) / len(rows.table)
    guess = replace(guess, refused=verdicts.reasons, refused_share=share)
    problems = judge.find_stop_reasons(verdicts, _parse_recipe(name, data_path, guess, folder), ())
    return replace(guess, problems=tuple(problems))


def _parse_recipe(name: str, data_path: str, guess: "Guess", folder: Path) -> Recipe:
    tree = yaml.safe_load(render_recipe(name, data_path, guess))
    return Recipe.model_validate({**tree, "folder": str(folder.absolute())})
