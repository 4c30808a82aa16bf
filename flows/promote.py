"""The promote flow: make a version champion by hand, from Prefect's page."""

from typing import Annotated

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import StringConstraints

from evertune.config import Recipe, load_recipe
from evertune.registry.decisions import promotion
from evertune.runtime.home import home_of
from flows.naming import recipe_name
from tasks.artifacts import show_decision

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"\S")]


@flow(name="promote", flow_run_name=recipe_name)
def promote(recipe: Recipe | str, version: int, reason: Reason) -> int:
    """Make a version champion, whatever the gate decided; it must pass the parity check.

    Args:
        recipe: a recipe, or the path of its YAML file.
        version: registered version.
        reason: recorded in the ledger.
    Raises:
        RegistryError: there is no such version, it is champion already, or it fails the check.
    """
    recipe = load_recipe(recipe, for_data=False) if isinstance(recipe, str) else recipe
    return move(recipe, version, reason)


@task(task_run_name="move", cache_policy=NO_CACHE)
def move(recipe: Recipe, version: int, reason: str) -> int:
    """Check the version and move the alias.

    Raises:
        RegistryError: there is no such version, it is champion already, or it fails the check.
    """
    promotion.promote_version(home_of(recipe), recipe.registered_name, version, reason)
    show_decision(recipe.name, "promoted", f"by hand: {reason}", version)
    return version
