"""What the contract of a recipe that is about to be written makes of its rows: it is asked, not guessed."""

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

ROWS = 50_000  # that are judged, evenly spaced
DAMAGE = ("control character", "encoding damage")
MANY = 0.2  # share of damaged rows from which these data are so by nature: their rows are kept


def try_contract(name: str, data_path: str, guess: "Guess", folder: Path) -> "Guess":
    """The guess with the rows that its contract refuses and with what stops a run all the same.

    Args:
        name, data_path: as for `recipe_text`; folder: what a relative `data_path` starts from.
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
