"""The monitor flow: have the rows drifted since the champion was tested, and is it time to retrain?"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from evertune.config import Recipe, load_recipe
from evertune.errors import RegistryError
from evertune.monitoring import monitor as monitoring
from evertune.monitoring import triggers
from evertune.notify import notices
from evertune.records import Monitoring, Trigger, to_plain
from evertune.registry.decisions import ledger
from evertune.registry.tracking import queries
from evertune.registry.versions import versions
from evertune.report.pages import drift
from evertune.runtime import job_slots
from evertune.runtime.context import RunContext, open_context
from evertune.runtime.home import home_of
from flows.naming import recipe_name
from tasks.artifacts import show_drift
from tasks.ingest import ingest
from tasks.notify import notify_on_failure, send_notice
from tasks.step import exclusive_run, logger, prepare_run
from tasks.validate import validate

DRIFT = "evertune.drift"
RETRAIN = "evertune.retrain"  # an automation starts a retraining on this event
HELD = "evertune.trigger-held"


@flow(name="monitor", flow_run_name=recipe_name)
@notify_on_failure
def monitor(recipe: Recipe | str, input: str | None = None, encoding: str | None = None) -> Monitoring:
    """Check for drift. The result goes to MLflow; drift and the recipe's triggers become events of Prefect.

    Without an input file, the rows of the sources are ingested first, as in a retraining. A file starts no retraining:
    a retraining would not read its rows, and the trigger's cooldown would delay one that is needed.

    Args:
        recipe: a recipe, or the path of its YAML file.
        input: a file of rows, labelled or not. Default: the rows that came since the champion was trained.
        encoding: of a text file. Default: that of the recipe's files.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    prepare_run()
    _require_champion(recipe)  # without one nothing can be compared, so no row is ingested
    if input is None:
        with exclusive_run(recipe):
            validate(ingest(recipe), recipe)
    result = look(recipe, input, encoding)
    show_drift(recipe.name, result)
    announce_findings(recipe, result)
    if result.drifted:
        send_notice(recipe, notices.describe_drift(recipe, result))
    return result


def announce_findings(recipe: Recipe, result: Monitoring) -> None:
    """Send the events, and record each trigger in the ledger: after its event, so that a crash repeats it."""
    names = {"prefect.resource.id": f"evertune.model.{recipe.name}", "prefect.resource.name": recipe.name}
    if result.drifted:
        emit_event(DRIFT, names, payload={"reason": result.reason, "p": result.p, "version": result.version})
    for trigger in result.triggers:
        logger.info(
            "trigger %s: %s", trigger.name, "retraining requested" if trigger.starts else f"held, {trigger.held}"
        )
        facts = {"trigger": trigger.name, "reason": trigger.reason}
        why = {} if trigger.starts else {"held": trigger.held}
        emit_event(RETRAIN if trigger.starts else HELD, names, payload={**facts, "version": result.version, **why})
        ledger.append_event(
            home_of(recipe),
            "trigger",
            starts=trigger.starts,
            held=trigger.held,
            champion=result.version,
            trigger=trigger.name,
            reason=trigger.reason,
        )


@task(task_run_name="look", cache_policy=NO_CACHE)
def look(recipe: Recipe, input: str | None, encoding: str | None) -> Monitoring:
    """Compare both sides, write the report, and record the result.

    Args:
        input: a file of rows; None for the rows that came since the champion was trained.
        encoding: of a text file.
    Raises:
        DataError: the input cannot be read.
        RegistryError: there is no champion, or it cannot be read.
    """
    context = open_context(recipe)
    name = recipe.registered_name
    version = _require_champion(recipe)
    champion = versions.fetch_bundle(context.home, name, version)
    if input:
        before, now = monitoring.load_file_sides(context, champion, input, encoding)
    else:
        before, now = monitoring.load_corpus_sides(context, champion)
    with job_slots.hold_slot(recipe.name):
        comparison = monitoring.compare_sides(recipe, champion, version, before, now)
    folder: Path = context.home.monitors / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    page = drift.write_drift_page(folder, to_plain(comparison.found), comparison.reference, comparison.current)
    triggered = () if input else _decide_triggers(context, champion, comparison.found)
    result = replace(comparison.found, report=str(page), triggers=triggered)
    return replace(result, run_id=queries.record_monitoring(context, result, folder))


def _require_champion(recipe: Recipe) -> int:
    version = versions.find_champion(home_of(recipe), recipe.registered_name)
    if version is None:
        raise RegistryError(
            f"{recipe.registered_name} has no champion yet; make one with `evertune run`, or see "
            "`evertune history` for why there is none"
        )
    return version


def _decide_triggers(context: RunContext, champion: Path, result: Monitoring) -> tuple[Trigger, ...]:
    now = datetime.now(UTC)
    trained = queries.sum_training_seconds(context, now - triggers.WEEK)
    state = triggers.TriggerState(
        monitoring.count_new_rows(context, champion), ledger.read_entries(context.home), trained, now
    )
    return triggers.decide_triggers(context.recipe.triggers, result, state)
