"""Step 5: challenger and champion on the same sealed rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.columns.strings import mask_equal
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.errors import EvertuneError
from evertune.evaluation import evaluate as evaluation
from evertune.evaluation import zero_shot
from evertune.gate import challenge
from evertune.monitoring import monitor
from evertune.records import Candidate, Evaluation, compute_digest, to_plain
from evertune.registry.decisions import ledger, queries
from evertune.registry.tracking import runs
from evertune.registry.versions import versions
from evertune.runtime import job_slots
from evertune.runtime.files import write_json
from evertune.runtime.home import home_of
from evertune.serving import bundle
from tasks.artifacts import show_metrics
from tasks.step import logger, step

if TYPE_CHECKING:
    import pyarrow as pa


@step
def evaluate(candidate: Candidate, recipe: Recipe) -> Evaluation:
    """Score both models on the same test rows, unless that is done."""
    home = home_of(recipe)
    folder = Path(candidate.run_folder)
    version = queries.find_opponent(home, recipe.registered_name, candidate.run_id)
    # None too for the champion itself that met none, where a crash came before the run's end
    has_champion = version is not None or versions.find_champion(home, recipe.registered_name) is not None
    lost_champion = None if has_champion else challenge.explain_lost_champion(ledger.read_entries(home))
    fingerprint = candidate.tokens.snapshot.fingerprint
    key = compute_digest(
        evaluation.STEP_VERSION, candidate.digest, fingerprint, version, lost_champion, recipe.evaluation
    )
    report = evaluation.load_evaluation(folder, key)
    if report is None:
        with runs.fail_on_error(home, candidate.run_id), job_slots.hold_slot(recipe.name):
            report = _score_models(candidate, recipe, version, lost_champion)
        if report.problem is None:  # else it is to be made again once a person has mended what it needs
            evaluation.save_evaluation(folder, key, report)
    show_metrics(recipe.name, report)
    champion_note = (
        f", champion {report.champion_metrics['test'][recipe.metric]:.4f}" if report.champion_metrics else ""
    )
    leak_note = f" ({report.leaked:,} of them in or near train rows)" if report.leaked else ""
    value = report.metrics["test"][recipe.metric]
    logger.info("evaluate: %s %.4f on the test rows%s%s", recipe.metric, value, leak_note, champion_note)
    return report


def _score_models(candidate: Candidate, recipe: Recipe, version: int | None, problem: str | None) -> Evaluation:
    """Score both models; a champion that cannot be read is a reason to hold, not an error."""
    home = home_of(recipe)
    champion = None
    since = None
    if version is not None:
        try:
            folder = versions.fetch_bundle(home, recipe.registered_name, version)
            champion = folder
            since = int(bundle.read_card(folder)["snapshot"]["batch"])
        except (EvertuneError, KeyError) as error:
            problem = f"the champion, version {version}, cannot be read: {error}"
    rows, leaked = _load_test_rows(recipe, candidate.tokens.snapshot.version, since)
    report = evaluation.evaluate_models(recipe, candidate, rows, leaked, champion, version, problem=problem)
    drift = None
    if champion is not None and version is not None and since is not None and report.problem is None:
        drift = _check_drift(recipe, champion, version, rows, since)
    write_json(Path(candidate.run_folder) / "drift.json", drift)
    write_json(Path(candidate.run_folder) / "zero_shot.json", _score_untrained(recipe, rows, candidate))
    return report


def _score_untrained(recipe: Recipe, rows: "pa.Table", candidate: Candidate) -> Any:
    """What the base model reaches without training, for the page: it decides nothing, so it ends no run either."""
    try:
        labels = candidate.tokens.snapshot.labels
        if zero_shot.supports_baseline(recipe):
            return zero_shot.measure_baseline(recipe, rows, labels)
        return {"why": why} if (why := zero_shot.explain_missing_baseline(recipe)) else None
    except Exception as error:
        logger.warning("evaluate: no baseline without training: %s: %s", type(error).__name__, error)
        return None


def _check_drift(recipe: Recipe, champion: Path, version: int, rows: "pa.Table", since: int) -> Any:
    """Whether the new test rows are of another kind, for the page: it decides nothing, so it ends no run either."""
    try:
        return to_plain(monitor.compare_run_rows(recipe, champion, version, rows, since))
    except Exception as error:  # the champion's code may be of any age
        logger.warning("evaluate: no look for drift in the new rows: %s: %s", type(error).__name__, error)
        return None


def _load_test_rows(recipe: Recipe, version: int, since: int | None) -> "tuple[pa.Table, set[str]]":
    """The test rows to score; which of them stand in or near what the challenger or the champion was trained on.

    Args:
        since: newest batch that the champion knew; None where there is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    home = home_of(recipe)
    columns = ["row_version", "row_key", "batch", "split", "component"]
    all_rows = corpus.read_rows(home, version, columns)
    leaked = set(splits.find_leaked_rows(all_rows).to_pylist())
    if since is not None and _has_superseded(all_rows):
        leaked |= set(splits.find_leaked_rows(corpus.read_rows(home, version, columns, until=since)).to_pylist())
    aged_rows = _set_first_batches(all_rows, recipe)
    chosen = aged_rows.filter(
        mask := pa.array(evaluation.select_scored_rows(aged_rows, recipe.evaluation.window, since))
    )
    rows = corpus.read_rows(home, version, since=all_rows.filter(mask)["batch"][0].as_py() - 1 if len(chosen) else None)
    rows = rows.take(pc.index_in(chosen["row_version"], value_set=rows["row_version"]))
    rows = rows.set_column(rows.column_names.index("batch"), "batch", chosen["batch"])
    if "component" not in rows.column_names:
        rows = rows.append_column("component", chosen["component"])
    return label_names.rename_rows(rows, recipe), leaked


def _has_superseded(rows: "pa.Table") -> bool:
    """Whether there may have been other rows before these: without ids rows only come, and components only grow."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.not_equal(rows["row_key"], rows["row_version"])).as_py())


def _set_first_batches(rows: "pa.Table", recipe: Recipe) -> "pa.Table":
    """The rows; `batch` of test rows is the one that first brought what they hold: a touched row is not new."""
    import pyarrow as pa

    batches = rows["batch"].to_numpy().copy()
    is_test = mask_equal(rows["split"], "test")
    batches[is_test] = corpus.find_first_batches(home_of(recipe), rows.filter(pa.array(is_test)), recipe)
    return rows.set_column(rows.column_names.index("batch"), "batch", pa.array(batches))
