"""What flow runs are called on Prefect's page."""

from pathlib import Path

from prefect.runtime import flow_run

from evertune.config import Recipe


def recipe_name() -> str:
    """The name of the recipe that the flow run was given; of a path that is yet to be read, the file's name."""
    given = flow_run.parameters["recipe"]
    return given.name if isinstance(given, Recipe) else Path(given).stem.replace("_", "-")
