"""Step 5: challenger and champion on the same sealed rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.runtime.files import write_json

from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.columns.strings import same
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.errors import EvertuneError
from evertune.evaluation import evaluate as evaluation
from evertune.evaluation import zero_shot
from evertune.gate import challenge
from evertune.monitoring import monitor as monitoring
from evertune.records import Candidate, Evaluation, digest, plain
from evertune.registry.decisions import ledger
from evertune.registry.decisions import queries as decisions
from evertune.registry.tracking import runs as tracking
from evertune.registry.versions import versions as models
from evertune.runtime import job_slots as jobs
from evertune.runtime.home import home_of
from evertune.serving import bundle
from tasks.artifacts import show_metrics
from tasks.step import said, step

if TYPE_CHECKING:
    import pyarrow as pa


@step
def evaluate(candidate: Candidate, recipe: Recipe) -> Evaluation:
    """Score both models on the same test rows, unless that is done."""
    home, folder = home_of(recipe), Path(candidate.run_folder)
    version = decisions.opponent(home, recipe.registered_name, candidate.run_id)
    # None too for the champion itself that met none, where a crash came before the run's end
    there = version is not None or models.champion(home, recipe.registered_name) is not None
    lost = None if there else challenge.lost(ledger.entries(home))
    seen = candidate.tokens.snapshot.fingerprint
    key = digest(evaluation.STEP_VERSION, candidate.digest, seen, version, lost, recipe.evaluation)
    report = evaluation.kept(folder, key)
    if report is None:
        with tracking.failing(home, candidate.run_id), jobs.place(recipe.name):
            report = _scored(candidate, recipe, version, lost)
        if report.problem is None:  # else it is to be made again once a person has mended what it needs
            evaluation.keep(folder, key, report)
    show_metrics(recipe.name, report)
    beside = f", champion {report.champion_metrics['test'][recipe.metric]:.4f}" if report.champion_metrics else ""
    leaking = f" ({report.leaked:,} of them in or near train rows)" if report.leaked else ""
    value = report.metrics["test"][recipe.metric]
    said.info("evaluate: %s %.4f on the test rows%s%s", recipe.metric, value, leaking, beside)
    return report


def _scored(candidate: Candidate, recipe: Recipe, version: int | None, problem: str | None) -> Evaluation:
    """Score both models; a champion that cannot be read is a reason to hold, not an error."""
    home, champion, since = home_of(recipe), None, None
    if version is not None:
        try:
            folder = models.bundle_of(home, recipe.registered_name, version)
            champion, since = folder, int(bundle.card(folder)["snapshot"]["batch"])
        except (EvertuneError, KeyError) as error:
            problem = f"the champion, version {version}, cannot be read: {error}"
    rows, leaked = _test_rows(recipe, candidate.tokens.snapshot.version, since)
    report = evaluation.evaluate(recipe, candidate, rows, leaked, champion, version, problem=problem)
    seen = None
    if champion is not None and version is not None and since is not None and report.problem is None:
        seen = _drift(recipe, champion, version, rows, since)
    write_json(Path(candidate.run_folder) / "drift.json", seen)
    write_json(Path(candidate.run_folder) / "zero_shot.json", _untrained(recipe, rows, candidate))
    return report


def _untrained(recipe: Recipe, rows: "pa.Table", candidate: Candidate) -> Any:
    """What the base model reaches without training, for the page: it decides nothing, so it ends no run either."""
    try:
        labels = candidate.tokens.snapshot.labels
        if zero_shot.possible(recipe):
            return zero_shot.baseline(recipe, rows, labels)
        return {"why": why} if (why := zero_shot.why_not(recipe)) else None
    except Exception as error:
        said.warning("evaluate: no baseline without training: %s: %s", type(error).__name__, error)
        return None


def _drift(recipe: Recipe, champion: Path, version: int, rows: "pa.Table", since: int) -> Any:
    """Whether the new test rows are of another kind, for the page: it decides nothing, so it ends no run either."""
    try:
        return plain(monitoring.of_run(recipe, champion, version, rows, since))
    except Exception as error:  # the champion's code may be of any age
        said.warning("evaluate: no look for drift in the new rows: %s: %s", type(error).__name__, error)
        return None


def _test_rows(recipe: Recipe, version: int, since: int | None) -> "tuple[pa.Table, set[str]]":
    """The test rows to score; which of them stand in or near what the challenger or the champion was trained on.

    Args:
        since: newest batch that the champion knew; None where there is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    home, columns = home_of(recipe), ["row_version", "row_key", "batch", "split", "component"]
    every = corpus.rows(home, version, columns)
    leaked = set(splits.leaked(every).to_pylist())
    if since is not None and _superseded(every):
        leaked |= set(splits.leaked(corpus.rows(home, version, columns, until=since)).to_pylist())
    aged = _with_age(every, recipe)
    chosen = aged.filter(mask := pa.array(evaluation.scored(aged, recipe.evaluation.window, since)))
    found = corpus.rows(home, version, since=every.filter(mask)["batch"][0].as_py() - 1 if len(chosen) else None)
    found = found.take(pc.index_in(chosen["row_version"], value_set=found["row_version"]))
    found = found.set_column(found.column_names.index("batch"), "batch", chosen["batch"])
    if "component" not in found.column_names:
        found = found.append_column("component", chosen["component"])
    return relabel.rows(found, recipe), leaked


def _superseded(rows: "pa.Table") -> bool:
    """Whether there may have been other rows before these: without ids rows only come, and components only grow."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.not_equal(rows["row_key"], rows["row_version"])).as_py())


def _with_age(rows: "pa.Table", recipe: Recipe) -> "pa.Table":
    """The rows; `batch` of test rows is the one that first brought what they hold: a touched row is not new."""
    import pyarrow as pa

    batches, test = rows["batch"].to_numpy().copy(), same(rows["split"], "test")
    batches[test] = corpus.first_batches(home_of(recipe), rows.filter(pa.array(test)), recipe)
    return rows.set_column(rows.column_names.index("batch"), "batch", pa.array(batches))
