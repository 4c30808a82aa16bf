"""The monitor flow: are the rows that come still those that the champion was tested on, and is it time to retrain?"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from evertune.config import Recipe, load
from evertune.errors import RegistryError
from evertune.monitoring import monitor as monitoring
from evertune.monitoring import triggers
from evertune.notify import notices
from evertune.records import Monitoring, Trigger, plain
from evertune.registry.decisions import ledger
from evertune.registry.tracking import costs, monitors
from evertune.registry.versions import versions as models
from evertune.report.pages import drift as pages
from evertune.runtime import job_slots as jobs
from evertune.runtime.home import Home, home_of
from flows.naming import recipe_name
from tasks.artifacts import show_drift
from tasks.ingest import ingest
from tasks.notify import tell, telling
from tasks.step import alone, begin, said
from tasks.validate import validate

DRIFT = "evertune.drift"
RETRAIN, HELD = "evertune.retrain", "evertune.trigger-held"  # an automation turns the first into a retraining


@flow(name="monitor", flow_run_name=recipe_name)
@telling  # people, when it fails
def monitor(recipe: Recipe | str, input: str | None = None, encoding: str | None = None) -> Monitoring:
    """Look for drift; what is found goes to MLflow, drift and the recipe's triggers as events to Prefect.

    Without an input the rows that the sources hold are taken in first, as a retraining does. A file asks for no
    retraining: that would find nothing of its rows, and its cooldown would hold back one that is needed.

    Args:
        recipe: a recipe, or the path of its YAML file.
        input: a file of rows, labelled or not. Default: the rows that came since the champion was trained.
        encoding: of a text file. Default: that of the recipe's files.
    """
    recipe = load(recipe) if isinstance(recipe, str) else recipe
    begin()
    _champion(recipe)  # without one there is nothing to look with: no row is taken in for that
    if input is None:
        with alone(recipe):
            validate(ingest(recipe), recipe)
    found = look(recipe, input, encoding)
    show_drift(recipe.name, found)
    announce(recipe, found)
    if found.drifted:
        tell(recipe, notices.drift(recipe, found))
    return found


def announce(recipe: Recipe, found: Monitoring) -> None:
    """Send the events, and write each trigger into the ledger: after its event, so that a crash repeats it."""
    names = {"prefect.resource.id": f"evertune.model.{recipe.name}", "prefect.resource.name": recipe.name}
    if found.drifted:
        emit_event(DRIFT, names, payload={"reason": found.reason, "p": found.p, "version": found.version})
    for one in found.triggers:
        said.info("trigger %s: %s", one.name, "a retraining is asked for" if one.starts else f"held, {one.held}")
        facts = {"trigger": one.name, "reason": one.reason}
        why = {} if one.starts else {"held": one.held}
        emit_event(RETRAIN if one.starts else HELD, names, payload={**facts, "version": found.version, **why})
        ledger.append(home_of(recipe), "trigger", starts=one.starts, held=one.held, champion=found.version, **facts)


@task(task_run_name="look", cache_policy=NO_CACHE)
def look(recipe: Recipe, input: str | None, encoding: str | None) -> Monitoring:
    """Compare, write the report, and record both.

    Raises:
        DataError: the input cannot be read.
        RegistryError: there is no champion, or it cannot be read.
    """
    home, name, version = home_of(recipe), recipe.registered_name, _champion(recipe)
    champion = models.bundle_of(home, name, version)
    if input:
        before, now = monitoring.of_file(recipe, home, champion, input, encoding)
    else:
        before, now = monitoring.since(recipe, home, champion)
    with jobs.place(recipe.name):
        seen = monitoring.look(recipe, champion, version, before, now)
    folder: Path = home.monitors / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    page = pages.page(folder, plain(seen.found), seen.reference, seen.current)
    asked = () if input else _triggers(recipe, home, champion, seen.found)
    found = replace(seen.found, report=str(page), triggers=asked)
    return replace(found, run_id=monitors.keep(recipe, home, found, folder))


def _champion(recipe: Recipe) -> int:
    version = models.champion(home_of(recipe), recipe.registered_name)
    if version is None:
        raise RegistryError(
            f"{recipe.registered_name} has no champion yet; `evertune run` makes one, `evertune history` tells why not"
        )
    return version


def _triggers(recipe: Recipe, home: Home, champion: Path, found: Monitoring) -> tuple[Trigger, ...]:
    now = datetime.now(UTC)
    trained = costs.trained_since(recipe, home, now - triggers.WEEK)
    known = triggers.Known(monitoring.came_since(recipe, home, champion), ledger.entries(home), trained, now)
    return triggers.decide(recipe.triggers, found, known)
