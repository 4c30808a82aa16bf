"""The end of a run: its report, its outcome, and the note that this recipe over these rows is done."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from evertune.runtime.files import read_json

from evertune import report as reports
from evertune.config import Recipe
from evertune.notify import notices
from evertune.records import Candidate, Decision, Evaluation, Outcome, Snapshot, TooLittle, plain
from evertune.registry.decisions import ledger
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking import unfinished
from evertune.registry.versions import versions as models
from evertune.runs import provenance as origins
from evertune.runs import recipe_changes
from evertune.runs import up_to_date as conclusion
from evertune.runtime.home import Home, home_of
from tasks.artifacts import show_decision, show_report
from tasks.notify import tell
from tasks.step import said, seconds, step


def unchanged(snapshot: Snapshot, recipe: Recipe) -> Outcome | None:
    """The last outcome where the sources brought nothing new, recorded in the ledger; else None."""
    home = home_of(recipe)
    changes = recipe_changes.since(recipe, home)
    same = conclusion.after_reading(recipe, home, snapshot)
    if same is None:
        return None
    unfinished.close(home, recipe.name, holding="run")
    said.info("unchanged: %s", same.reason)
    show_decision(recipe.name, same.decision, same.reason, same.version)
    ledger.recipe_changed(home, changes)
    return ledger.unchanged(home, same)


def waiting(short: TooLittle, snapshot: Snapshot, recipe: Recipe) -> Outcome:
    """The outcome where the rows that came since the champion teach nothing yet, recorded in the ledger.

    Such rows stay new: the run that learns from them tells of them too. Where none came, an edited recipe is done.
    """
    home = home_of(recipe)
    changes = recipe_changes.since(recipe, home)
    outcome = replace(_last(home, recipe, snapshot), reason=short.reason, rows=conclusion.rows(snapshot))
    unfinished.close(home, recipe.name, holding="run")
    said.info("unchanged: %s", short.reason)
    show_decision(recipe.name, outcome.decision, outcome.reason, outcome.version)
    ledger.recipe_changed(home, changes)
    if not snapshot.accepted:
        conclusion.conclude(recipe, home, snapshot, outcome)
    return ledger.unchanged(home, outcome)


def _last(home: Home, recipe: Recipe, snapshot: Snapshot) -> Outcome:
    """The last outcome as `unchanged`; where a crash came before any was noted, what is known of the champion."""
    seen = {"version": snapshot.version, "rows": snapshot.rows, "fingerprint": snapshot.fingerprint}
    if (last := conclusion.last(home)) is not None:
        return replace(last, snapshot=seen)
    version = models.champion(home, recipe.registered_name)
    return Outcome("unchanged", "", recipe.registered_name, version, version, None, seen, {}, {}, {}, None)


@step
def conclude(candidate: Candidate, evaluation: Evaluation, decision: Decision, recipe: Recipe) -> Outcome:
    """Write the report, close the MLflow run and return the outcome; safe to repeat.

    Where the champion could not be read, the recipe is not done with these rows: the next run compares, and trains not.
    """
    home, folder = home_of(recipe), Path(candidate.run_folder)
    snapshot = candidate.tokens.snapshot
    run = tracking.Run(home, candidate.run_id, folder)
    outcome = _outcome(candidate, evaluation, decision, recipe)
    if _is_again(home, folder, outcome.version, outcome.champion_version):
        return _champion_again(run, recipe, outcome, snapshot)
    details, history = read_json(Path(evaluation.details)), tracking.history(folder)
    pictures = reports.pictures(folder / "report", details, history)
    beside = {name: read_json(folder / f"{name}.json") for name in ("drift", "zero_shot")}
    origin = {**origins.told(recipe, home, snapshot, run.run_id), **beside}
    page = reports.page(folder / "report" / "report.html", plain(outcome), details, history, pictures, origin)
    reports.card(folder / "report" / "README.md", recipe, plain(outcome), details, origin)
    outcome = replace(outcome, report=str(page))
    _record(run, recipe, outcome, evaluation, snapshot)
    link = tracking.url(home, run.run_id)
    show_report(recipe.name, str(page), link)
    # Before the end is noted: a crash in between tells people twice, never not at all.
    tell(recipe, notices.outcome(recipe, outcome, evaluation.champion_metrics.get("test", {}), link))
    if evaluation.problem is None or outcome.version == outcome.champion_version:  # or a person gave it the place
        conclusion.conclude(recipe, home, snapshot, outcome)
        # Last: from now on a repetition is no going on. A decision that comes later makes it one again.
        (folder / "concluded").write_text(_decisions(home, outcome.version))
    return outcome


def _outcome(candidate: Candidate, evaluation: Evaluation, decision: Decision, recipe: Recipe) -> Outcome:
    home, snapshot = home_of(recipe), candidate.tokens.snapshot
    name = recipe.registered_name
    return Outcome(
        decision=decision.verdict, reason=decision.reason, model=name, run_id=candidate.run_id,
        version=models.version_of(home, name, candidate.run_id), champion_version=models.champion(home, name),
        snapshot={"version": snapshot.version, "rows": snapshot.rows, "fingerprint": snapshot.fingerprint},
        rows=conclusion.rows(snapshot),
        metrics=evaluation.metrics, leaked=evaluation.leaked, seconds=dict(seconds.get()), report=None,
        evidence=decision.evidence, waiting=decision.waiting,
        training={
            "steps": candidate.steps, "epochs": candidate.epochs, "seconds": candidate.seconds,
            "loss": candidate.train_loss, "tokens": candidate.tokens.tokens, "trained_share": candidate.trained,
        },
    )  # fmt: skip


def _is_again(home: Home, folder: Path, version: int | None, champion: int | None) -> bool:
    """Whether this very training was concluded before, and its model was the champion when this run began."""
    if not (folder / "concluded").exists():
        return False
    if (then := (folder / "concluded").read_text()) == "":  # an older Evertune's, or a crash came while it was written
        done = (read_json(home.state) or {}).get("concluded") or {}
        return bool(done) and done["outcome"]["champion_version"] == version
    # Whatever was champion meanwhile, such as one that was rolled back: this run has decided nothing.
    return champion == version and _decisions(home, version) == then


def _decisions(home: Home, version: int | None) -> str:
    """How often a version was decided on."""
    return str(sum(one["event"] == "decision" and one["version"] == version for one in ledger.entries(home)))


def _champion_again(run: tracking.Run, recipe: Recipe, outcome: Outcome, snapshot: Snapshot) -> Outcome:
    """The edited recipe makes the champion of these rows once more: its run, page and decision stay as they are."""
    home, why = home_of(recipe), "these rows and this recipe make the champion again; nothing was trained"
    outcome = replace(outcome, decision="unchanged", reason=why, report=str(run.folder / "report" / "report.html"))
    run.finish()
    conclusion.conclude(recipe, home, snapshot, outcome)
    return ledger.unchanged(home, outcome)


def _record(run: tracking.Run, recipe: Recipe, outcome: Outcome, evaluation: Evaluation, snapshot: Snapshot) -> None:
    values: dict[str, Any] = {
        f"{split}_{name}": value for split, found in evaluation.metrics.items() for name, value in found.items()
    }
    values |= {f"rows_{name}": outcome.rows[name] for name in ("accepted", "refused")}  # for the model's history
    values["rows_corpus"] = sum(snapshot.rows.values())
    run.log({name: value for name, value in values.items() if value is not None}, outcome.training["steps"])
    run.recipe(recipe)
    run.tag(decision=outcome.decision, reason=outcome.reason)
    run.note(f"**{outcome.decision}**: {outcome.reason}")
    run.artifact(run.folder / "report", "report")
    run.artifact(Path(evaluation.details), "report")
    for docs in map(Path, snapshot.data_docs):
        run.artifact(docs, f"data_docs/{docs.name}")
    run.finish()
