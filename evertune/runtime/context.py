"""What the steps of a run share: the recipe, the home of its model, and its objective."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evertune.objectives import Objective, load_objective
from evertune.runtime.home import Home, home_of

if TYPE_CHECKING:
    from evertune.config import Recipe


@dataclass(frozen=True)
class RunContext:
    """A recipe, the home of its model, and its objective: what most functions of a run need.

    Args:
        recipe: the checked recipe.
        home: the folders of the model's rows, runs and ledger.
    """

    recipe: "Recipe"
    home: Home

    @functools.cached_property
    def objective(self) -> Objective:
        """What the model is tuned for."""
        return load_objective(self.recipe.objective.type)


def open_context(recipe: "Recipe") -> RunContext:
    """Return the context of a recipe in its own home. Nothing is created until something is written."""
    return RunContext(recipe, home_of(recipe))
