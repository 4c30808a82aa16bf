"""The end of a run: its report, its outcome, and the record that this recipe over these rows is done."""

from dataclasses import replace
from pathlib import Path

from evertune.config import Recipe
from evertune.notify import notices
from evertune.records import Candidate, Decision, Evaluation, Outcome, Snapshot, TooLittle
from evertune.registry.decisions import ledger
from evertune.registry.tracking import runs, unfinished
from evertune.runs import outcome as outcomes
from evertune.runs import recipe_changes, up_to_date
from evertune.runtime.context import RunContext, open_context
from tasks.artifacts import show_decision, show_report
from tasks.notify import send_notice
from tasks.step import logger, step, step_seconds


def find_unchanged(snapshot: Snapshot, recipe: Recipe) -> Outcome | None:
    """Return the last outcome, and record it in the ledger, if the sources brought nothing new; else None."""
    context = open_context(recipe)
    changes = recipe_changes.find_changes(context)  # before the check, which replaces the recipe on record
    outcome = up_to_date.check_after_reading(context, snapshot)
    if outcome is None:
        return None
    _show_unchanged(context, outcome, changes)
    return ledger.record_unchanged(context.home, outcome)


def record_waiting(shortage: TooLittle, snapshot: Snapshot, recipe: Recipe) -> Outcome:
    """Return the outcome of a run whose new rows are too few to train on, and record it in the ledger.

    The rows stay new: the run that trains on them counts them too. If there were none, the edited recipe is done.
    """
    context = open_context(recipe)
    changes = recipe_changes.find_changes(context)
    outcome = outcomes.build_waiting_outcome(shortage, snapshot, context)
    _show_unchanged(context, outcome, changes)
    if not snapshot.accepted:
        up_to_date.record_conclusion(context, snapshot, outcome)
    return ledger.record_unchanged(context.home, outcome)


def _show_unchanged(context: RunContext, outcome: Outcome, changes: list[str]) -> None:
    unfinished.close_abandoned(context.home, context.recipe.name, held_lock="run")
    logger.info("unchanged: %s", outcome.reason)
    show_decision(context.recipe.name, outcome.decision, outcome.reason, outcome.version)
    ledger.record_recipe_change(context.home, changes)


@step
def conclude(candidate: Candidate, evaluation: Evaluation, decision: Decision, recipe: Recipe) -> Outcome:
    """Write the report, close the MLflow run and return the outcome; safe to repeat."""
    context = open_context(recipe)
    snapshot = candidate.tokens.snapshot
    run = runs.Run(context.home, candidate.run_id, Path(candidate.run_folder))
    outcome = outcomes.build_outcome(candidate, evaluation, decision, context, dict(step_seconds.get()))
    if outcomes.is_repetition(context.home, run.folder, outcome):
        return outcomes.conclude_repetition(run, context, outcome, snapshot)

    page = outcomes.write_report(run, context, outcome, evaluation, snapshot)
    outcome = replace(outcome, report=str(page))
    outcomes.record_outcome(run, recipe, outcome, evaluation, snapshot)
    link = runs.find_run_url(context.home, run.run_id)
    show_report(recipe.name, str(page), link)
    # Before the run is marked as concluded: a crash in between notifies people twice instead of never.
    champion_metrics = evaluation.champion_metrics.get("test", {})
    send_notice(recipe, notices.describe_outcome(recipe, outcome, champion_metrics, link))
    outcomes.mark_concluded(run, context, outcome, evaluation, snapshot)
    return outcome
