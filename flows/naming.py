"""The names of flow runs on Prefect's page."""

from pathlib import Path

from prefect.runtime import flow_run

from evertune.config import Recipe


def recipe_name() -> str:
    """Return the name of the flow run's recipe; of a path that is not read yet, the file's name."""
    recipe = flow_run.parameters["recipe"]
    return recipe.name if isinstance(recipe, Recipe) else Path(recipe).stem.replace("_", "-")
