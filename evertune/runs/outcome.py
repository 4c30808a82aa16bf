"""How a run ended: its outcome, its report, and the records that it leaves in MLflow, the ledger and the home."""

from dataclasses import replace
from pathlib import Path

from evertune import report
from evertune.config import Recipe
from evertune.data.corpus.state import load_state
from evertune.records import Candidate, Decision, Evaluation, Outcome, Snapshot, SnapshotFacts, TooLittle, to_plain
from evertune.registry.decisions import ledger
from evertune.registry.tracking import runs
from evertune.registry.versions import versions
from evertune.runs import provenance, readiness_facts, up_to_date
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json
from evertune.runtime.home import Home

CONCLUDED = "concluded"  # file in a run's folder: how often its version had been decided on when the run ended


def build_outcome(
    candidate: Candidate,
    evaluation: Evaluation,
    decision: Decision,
    context: RunContext,
    seconds: dict[str, float],
) -> Outcome:
    """Return the outcome of a run that trained a challenger; its report is not written yet.

    Args:
        seconds: by step.
    Raises:
        RegistryError: MLflow does not answer.
    """
    name = context.recipe.registered_name
    snapshot = candidate.tokens.snapshot
    return Outcome(
        decision=decision.verdict,
        reason=decision.reason,
        model=name,
        run_id=candidate.run_id,
        version=versions.find_run_version(context.home, name, candidate.run_id),
        champion_version=versions.find_champion(context.home, name),
        snapshot=describe_snapshot(snapshot),
        rows=up_to_date.count_rows(snapshot),
        metrics=evaluation.metrics,
        leaked=evaluation.leaked,
        seconds=seconds,
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


def build_waiting_outcome(shortage: TooLittle, snapshot: Snapshot, context: RunContext) -> Outcome:
    """Return the outcome `unchanged` of a run whose new rows are too few to train on.

    It repeats the last outcome; if a crash came before any was recorded, it holds what is known of the champion.

    Raises:
        RegistryError: MLflow does not answer.
    """
    last = up_to_date.read_last_outcome(context.home)
    if last is None:
        name = context.recipe.registered_name
        version = versions.find_champion(context.home, name)
        last = Outcome("unchanged", "", name, version, version, None, {}, {}, {}, {}, None)
    return replace(
        last,
        snapshot=describe_snapshot(snapshot),
        reason=shortage.reason,
        rows=up_to_date.count_rows(snapshot),
    )


def describe_snapshot(snapshot: Snapshot) -> SnapshotFacts:
    """Return what an outcome says of its snapshot, JSON-ready."""
    return {"version": snapshot.version, "rows": snapshot.rows, "fingerprint": snapshot.fingerprint}


def is_repetition(home: Home, folder: Path, outcome: Outcome) -> bool:
    """Return whether this training was concluded before and its model was champion when this run began.

    Then this run has decided nothing: an edited recipe led to the training that made the champion. Any decision on the
    version after that conclusion, such as a rollback to another version, makes it no repetition.

    Args:
        folder: of the run.
    """
    marker = folder / CONCLUDED
    if not marker.exists():
        return False
    recorded_count = marker.read_text()
    if recorded_count == "":  # written by an older Evertune, or a crash came while it was written
        concluded = load_state(home).concluded
        return concluded is not None and concluded["outcome"]["champion_version"] == outcome.version
    is_champion = outcome.champion_version == outcome.version
    return is_champion and str(count_decisions(home, outcome.version)) == recorded_count


def count_decisions(home: Home, version: int | None) -> int:
    """Return how often the gate decided on a version."""
    return sum(entry["event"] == "decision" and entry["version"] == version for entry in ledger.read_entries(home))


def conclude_repetition(run: runs.Run, context: RunContext, outcome: Outcome, snapshot: Snapshot) -> Outcome:
    """End a run that made the champion again, and return its outcome, `unchanged`.

    The MLflow run, its page and its decision stay as they are.

    Raises:
        RegistryError: MLflow does not answer.
    """
    outcome = replace(
        outcome,
        decision="unchanged",
        reason="these rows and this recipe make the champion again; nothing was trained",
        report=str(run.folder / "report" / "report.html"),
    )
    run.finish_run()
    up_to_date.record_conclusion(context, snapshot, outcome)
    return ledger.record_unchanged(context.home, outcome)


def write_report(
    run: runs.Run, context: RunContext, outcome: Outcome, evaluation: Evaluation, snapshot: Snapshot
) -> Path:
    """Write the run's page, its pictures and the model card into the run's folder, and return the page.

    Raises:
        DataError: the snapshot cannot be read.
        RegistryError: MLflow does not answer.
    """
    folder = run.folder / "report"
    details = read_json(Path(evaluation.details))
    history = runs.read_history(run.folder)
    pictures = report.draw_pictures(folder, details, history)
    extras = {
        name: read_json(run.folder / f"{name}.json") for name in ("drift", "zero_shot", "word_baseline", "resources")
    }
    origin = {**provenance.describe_origin(context, snapshot, run.run_id), **extras}
    origin["readiness"] = readiness_facts.describe_readiness(context, run, outcome, evaluation, origin)
    plain_outcome = to_plain(outcome)
    page = report.write_run_page(folder / "report.html", plain_outcome, details, history, pictures, origin)
    report.write_card(folder / "README.md", context.recipe, plain_outcome, details, origin)
    return Path(page)


def record_outcome(run: runs.Run, recipe: Recipe, outcome: Outcome, evaluation: Evaluation, snapshot: Snapshot) -> None:
    """Log the outcome to the MLflow run: metrics, recipe, tags, report and Data Docs; then end the run.

    Raises:
        RegistryError: MLflow does not answer.
    """
    values: dict[str, float | None] = {
        f"{split}_{name}": value for split, metrics in evaluation.metrics.items() for name, value in metrics.items()
    }
    # For the model's history.
    values |= {"rows_accepted": outcome.rows["accepted"], "rows_refused": outcome.rows["refused"]}
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


def mark_concluded(
    run: runs.Run, context: RunContext, outcome: Outcome, evaluation: Evaluation, snapshot: Snapshot
) -> None:
    """Record that this recipe over these rows is done, so that the next run has nothing to do.

    If the champion could not be read, nothing is recorded: the next run compares again, without training. A version
    that a person promoted meanwhile is done all the same.

    Raises:
        OSError: the disk is full or not writable.
    """
    if evaluation.problem is not None and outcome.version != outcome.champion_version:
        return
    up_to_date.record_conclusion(context, snapshot, outcome)
    # Last: from now on the same training is a repetition, until the version is decided on again.
    (run.folder / CONCLUDED).write_text(str(count_decisions(context.home, outcome.version)))
