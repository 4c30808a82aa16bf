"""The end of a run: its report, its outcome, and the note that this recipe over these rows is done."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from evertune import report
from evertune.config import Recipe
from evertune.data.corpus.state import load_state
from evertune.notify import notices
from evertune.records import Candidate, Decision, Evaluation, Outcome, Snapshot, TooLittle, to_plain
from evertune.registry.decisions import ledger
from evertune.registry.tracking import runs, unfinished
from evertune.registry.versions import versions
from evertune.runs import provenance, recipe_changes, up_to_date
from evertune.runtime.files import read_json
from evertune.runtime.home import Home, home_of
from tasks.artifacts import show_decision, show_report
from tasks.notify import send_notice
from tasks.step import logger, step, step_seconds


def find_unchanged(snapshot: Snapshot, recipe: Recipe) -> Outcome | None:
    """The last outcome where the sources brought nothing new, recorded in the ledger; else None."""
    home = home_of(recipe)
    changes = recipe_changes.find_changes(recipe, home)
    same = up_to_date.check_after_reading(recipe, home, snapshot)
    if same is None:
        return None
    unfinished.close_abandoned(home, recipe.name, held_lock="run")
    logger.info("unchanged: %s", same.reason)
    show_decision(recipe.name, same.decision, same.reason, same.version)
    ledger.record_recipe_change(home, changes)
    return ledger.record_unchanged(home, same)


def record_waiting(short: TooLittle, snapshot: Snapshot, recipe: Recipe) -> Outcome:
    """The outcome where the rows that came since the champion teach nothing yet, recorded in the ledger.

    Such rows stay new: the run that learns from them tells of them too. Where none came, an edited recipe is done.
    """
    home = home_of(recipe)
    changes = recipe_changes.find_changes(recipe, home)
    outcome = replace(
        _load_last_outcome(home, recipe, snapshot), reason=short.reason, rows=up_to_date.count_rows(snapshot)
    )
    unfinished.close_abandoned(home, recipe.name, held_lock="run")
    logger.info("unchanged: %s", short.reason)
    show_decision(recipe.name, outcome.decision, outcome.reason, outcome.version)
    ledger.record_recipe_change(home, changes)
    if not snapshot.accepted:
        up_to_date.record_conclusion(recipe, home, snapshot, outcome)
    return ledger.record_unchanged(home, outcome)


def _load_last_outcome(home: Home, recipe: Recipe, snapshot: Snapshot) -> Outcome:
    """The last outcome as `unchanged`; where a crash came before any was noted, what is known of the champion."""
    snapshot_facts = {"version": snapshot.version, "rows": snapshot.rows, "fingerprint": snapshot.fingerprint}
    if (outcome := up_to_date.read_last_outcome(home)) is not None:
        return replace(outcome, snapshot=snapshot_facts)
    version = versions.find_champion(home, recipe.registered_name)
    return Outcome("unchanged", "", recipe.registered_name, version, version, None, snapshot_facts, {}, {}, {}, None)


@step
def conclude(candidate: Candidate, evaluation: Evaluation, decision: Decision, recipe: Recipe) -> Outcome:
    """Write the report, close the MLflow run and return the outcome; safe to repeat.

    Where the champion could not be read, the recipe is not done with these rows: the next run compares, and trains not.
    """
    home = home_of(recipe)
    folder = Path(candidate.run_folder)
    snapshot = candidate.tokens.snapshot
    run = runs.Run(home, candidate.run_id, folder)
    outcome = _build_outcome(candidate, evaluation, decision, recipe)
    if _is_repetition(home, folder, outcome.version, outcome.champion_version):
        return _conclude_again(run, recipe, outcome, snapshot)
    details = read_json(Path(evaluation.details))
    history = runs.read_history(folder)
    pictures = report.draw_pictures(folder / "report", details, history)
    extras = {name: read_json(folder / f"{name}.json") for name in ("drift", "zero_shot")}
    origin = {**provenance.describe_origin(recipe, home, snapshot, run.run_id), **extras}
    page = report.write_run_page(
        folder / "report" / "report.html", to_plain(outcome), details, history, pictures, origin
    )
    report.write_card(folder / "report" / "README.md", recipe, to_plain(outcome), details, origin)
    outcome = replace(outcome, report=str(page))
    _record_outcome(run, recipe, outcome, evaluation, snapshot)
    link = runs.find_run_url(home, run.run_id)
    show_report(recipe.name, str(page), link)
    # Before the end is noted: a crash in between tells people twice, never not at all.
    send_notice(recipe, notices.describe_outcome(recipe, outcome, evaluation.champion_metrics.get("test", {}), link))
    if evaluation.problem is None or outcome.version == outcome.champion_version:  # or a person gave it the place
        up_to_date.record_conclusion(recipe, home, snapshot, outcome)
        # Last: from now on a repetition is no going on. A decision that comes later makes it one again.
        (folder / "concluded").write_text(_count_decisions(home, outcome.version))
    return outcome


def _build_outcome(candidate: Candidate, evaluation: Evaluation, decision: Decision, recipe: Recipe) -> Outcome:
    home = home_of(recipe)
    snapshot = candidate.tokens.snapshot
    name = recipe.registered_name
    return Outcome(
        decision=decision.verdict,
        reason=decision.reason,
        model=name,
        run_id=candidate.run_id,
        version=versions.find_run_version(home, name, candidate.run_id),
        champion_version=versions.find_champion(home, name),
        snapshot={"version": snapshot.version, "rows": snapshot.rows, "fingerprint": snapshot.fingerprint},
        rows=up_to_date.count_rows(snapshot),
        metrics=evaluation.metrics,
        leaked=evaluation.leaked,
        seconds=dict(step_seconds.get()),
        report=None,
        evidence=decision.evidence,
        waiting=decision.waiting,
        training={
            "steps": candidate.steps,
            "epochs": candidate.epochs,
            "seconds": candidate.seconds,
            "loss": candidate.train_loss,
            "tokens": candidate.tokens.tokens,
            "trained_share": candidate.trained,
        },
    )


def _is_repetition(home: Home, folder: Path, version: int | None, champion: int | None) -> bool:
    """Whether this very training was concluded before, and its model was the champion when this run began."""
    if not (folder / "concluded").exists():
        return False
    if (noted := (folder / "concluded").read_text()) == "":  # an older Evertune's, or a crash came while it was written
        concluded = load_state(home).concluded
        return concluded is not None and concluded["outcome"]["champion_version"] == version
    # Whatever was champion meanwhile, such as one that was rolled back: this run has decided nothing.
    return champion == version and _count_decisions(home, version) == noted


def _count_decisions(home: Home, version: int | None) -> str:
    """How often a version was decided on."""
    return str(sum(entry["event"] == "decision" and entry["version"] == version for entry in ledger.read_entries(home)))


def _conclude_again(run: runs.Run, recipe: Recipe, outcome: Outcome, snapshot: Snapshot) -> Outcome:
    """The edited recipe makes the champion of these rows once more: its run, page and decision stay as they are."""
    home = home_of(recipe)
    why = "these rows and this recipe make the champion again; nothing was trained"
    outcome = replace(outcome, decision="unchanged", reason=why, report=str(run.folder / "report" / "report.html"))
    run.finish_run()
    up_to_date.record_conclusion(recipe, home, snapshot, outcome)
    return ledger.record_unchanged(home, outcome)


def _record_outcome(
    run: runs.Run, recipe: Recipe, outcome: Outcome, evaluation: Evaluation, snapshot: Snapshot
) -> None:
    values: dict[str, Any] = {
        f"{split}_{name}": value for split, metrics in evaluation.metrics.items() for name, value in metrics.items()
    }
    values |= {f"rows_{name}": outcome.rows[name] for name in ("accepted", "refused")}  # for the model's history
    values["rows_corpus"] = sum(snapshot.rows.values())
    run.log_metrics({name: value for name, value in values.items() if value is not None}, outcome.training["steps"])
    run.log_recipe(recipe)
    run.set_tags(decision=outcome.decision, reason=outcome.reason)
    run.set_description(f"**{outcome.decision}**: {outcome.reason}")
    run.log_artifact(run.folder / "report", "report")
    run.log_artifact(Path(evaluation.details), "report")
    for docs in map(Path, snapshot.data_docs):
        run.log_artifact(docs, f"data_docs/{docs.name}")
    run.finish_run()
