"""What flow runs are called on Prefect's page."""

from pathlib import Path

from prefect.runtime import flow_run

from evertune.config import Recipe


def recipe_name() -> str:
    """The name of the recipe that the flow run was given; of a path that is yet to be read, the file's name."""
    recipe = flow_run.parameters["recipe"]
    return recipe.name if isinstance(recipe, Recipe) else Path(recipe).stem.replace("_", "-")
