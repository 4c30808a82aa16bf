"""The monitor flow: are the rows that come still those that the champion was tested on?"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from evertune import monitoring, notices
from evertune.config import Recipe, load
from evertune.errors import RegistryError
from evertune.home import home_of
from evertune.records import Monitoring, plain
from evertune.registry import models, monitors
from evertune.report import drift as pages
from flows.naming import recipe_name
from tasks.artifacts import show_drift
from tasks.notify import tell, telling

DRIFT = "evertune.drift"  # the event that an automation turns into a retraining


@flow(name="monitor", flow_run_name=recipe_name)
@telling  # people, when it fails
def monitor(recipe: Recipe | str, input: str | None = None, encoding: str | None = None) -> Monitoring:
    """Look for drift; what is found goes to MLflow, and drift as an event to Prefect.

    Args:
        recipe: a recipe, or the path of its YAML file.
        input: a file of rows, labelled or not. Default: the rows that came since the champion was trained.
        encoding: of a text file. Default: that of the recipe's files.
    """
    recipe = load(recipe) if isinstance(recipe, str) else recipe
    found = look(recipe, input, encoding)
    show_drift(recipe.name, found)
    if found.drifted:
        names = {"prefect.resource.id": f"evertune.model.{recipe.name}", "prefect.resource.name": recipe.name}
        emit_event(DRIFT, names, payload={"reason": found.reason, "p": found.p, "version": found.version})
        tell(recipe, notices.drift(recipe, found))
    return found


@task(task_run_name="look", cache_policy=NO_CACHE)
def look(recipe: Recipe, input: str | None, encoding: str | None) -> Monitoring:
    """Compare, write the report, and record both.

    Raises:
        DataError: the input cannot be read.
        RegistryError: there is no champion, or it cannot be read.
    """
    home, name = home_of(recipe), recipe.registered_name
    version = models.champion(home, name)
    if version is None:
        raise RegistryError(f"{name} has no champion yet; `evertune run` makes one, `evertune history` tells why not")
    champion = models.bundle_of(home, name, version)
    now = monitoring.of_file(recipe, input, encoding) if input else monitoring.since(recipe, home, champion)
    seen = monitoring.look(recipe, champion, version, monitoring.reference(recipe, home, champion), now)
    folder: Path = home.monitors / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    page = pages.page(folder, plain(seen.found), seen.reference, seen.current)
    found = replace(seen.found, report=str(page))
    return replace(found, run_id=monitors.keep(recipe, home, found, folder))
