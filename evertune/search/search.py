"""Search the values of a recipe's open fields that do best on the validation rows.

A search is many trainings, in one or several processes, and can be resumed at any moment.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evertune import training
from evertune.config import Plan
from evertune.config.search import format_value
from evertune.errors import RegistryError, TrainingError
from evertune.objectives import load_objective
from evertune.records import Snapshot, compute_digest, to_plain
from evertune.registry.tracking import runs, searches, unfinished
from evertune.registry.versions import teaching
from evertune.report.pages import search as search_page
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.search import processes, recipe_text
from evertune.search.study import Study, Trial
from evertune.search.trial import read_seen_rows, tokenize_rows, without_champion
from evertune.search.work import SearchOrder

__all__ = ["Limits", "Result", "Trial", "run_search", "search_and_report"]
logger = logging.getLogger(__name__)
STEP_VERSION = 1  # raise it when the same trial gives another result


@dataclass(frozen=True)
class Limits:
    """The limits of a search.

    Args:
        trials: number of trials of the whole search.
        hours: time of this call after which no trial begins; None without a limit.
        jobs: processes of this call.
    """

    trials: int = 20
    hours: float | None = None
    jobs: int = 1


@dataclass(frozen=True)
class Result:
    """The result of a search.

    Args:
        folder: of the search.
        run_id: of its run in MLflow.
        metric: the metric that trials are compared by.
        falls: whether the metric falls as a model improves.
        rows: split -> number of rows that trials saw.
        fields: path -> description of what was searched.
        trials: all trials.
        best: number of the best trial.
        value: its metric.
        values: its values, by path.
        importances: each field's share of the metric's variation.
        sentence: the result in words.
    """

    folder: str
    run_id: str
    metric: str
    falls: bool
    rows: dict[str, int]
    fields: dict[str, str]
    trials: tuple[Trial, ...]
    best: int
    value: float
    values: dict[str, object]
    importances: dict[str, float]
    sentence: str


def search_and_report(
    plan: Plan, home: Home, snapshot: Snapshot, limits: Limits, output: Path, command: str
) -> dict[str, Any]:
    """Search, write the best recipe and the report, and end the run in MLflow.

    Returns:
        The result with the paths of recipe and report, ready for JSON.

    Args:
        plan: of the search.
        home: of the recipe.
        snapshot: of the corpus.
        limits: of the search.
        output: path of the best recipe.
        command: the command line of this search.
    Raises:
        ConfigError: the recipe cannot be written, or as `run_search`.
        EvertuneError: as `run_search`.
    """
    result = run_search(plan, home, snapshot, limits)
    facts = to_plain(result)
    comments = [f"Found by a search: {command}", result.sentence, f"Rows: version {snapshot.version} of the corpus."]
    recipe_text.write_recipe(plan, result.values, output, comments)
    page = search_page.write_search_page(Path(result.folder) / "report", facts, plan.recipe.name)
    shutil.copy(output, page.with_name("best.yaml"))
    best = {plan.recipe.metric: result.value, "best_trial": float(result.best), "trials": float(len(result.trials))}
    searches.finish_search_run(home, result.run_id, best, f"**Best**: {result.sentence}", page.parent)
    return {**facts, "recipe": str(output), "report": str(page)}


def run_search(plan: Plan, home: Home, snapshot: Snapshot, limits: Limits) -> Result:
    """Search together with all other processes that run the same search in this home; resumes an earlier call.

    Raises:
        ConfigError: the base model does not fit, the teacher does not exist, or no values can be trained.
        DataError: too few rows to learn from, or no validation rows.
        TrainingError: a training failed, or no trial was completed.
        RegistryError: MLflow does not answer.
    """
    deadline = None if limits.hours is None else time.time() + 3600 * limits.hours
    recipe = without_champion(plan.recipe)
    metric = plan.recipe.metric
    rows = read_seen_rows(RunContext(recipe, home), snapshot)
    tokens = tokenize_rows(RunContext(recipe, home), snapshot, rows)
    fields = {field.path: field.description for field in plan.fields}
    teachers = _find_teachers(plan)
    teachers_digest = compute_digest({name: mark for name, (_, mark) in teachers.items()}) if teachers else None
    key = compute_digest(STEP_VERSION, training.fingerprint_training(recipe, tokens, None, teachers_digest), fields)
    search_home = Home(home.root, f"{home.name}/searches/{key[:16]}")
    search_home.model.mkdir(parents=True, exist_ok=True)
    with _open_run(plan, home, search_home, fields) as run_id:
        falls = metric in load_objective(recipe.objective.type).LOWER_IS_BETTER
        study = Study(search_home, plan.fields, falls, recipe.training.seed)
        earlier_trials = study.list_trials()
        if earlier_trials:
            logger.info("resuming a search: %d of %d trials have begun", len(earlier_trials), limits.trials)
        teacher_folders = {name: folder for name, (folder, _) in teachers.items()}
        order = SearchOrder(plan.tree, home, snapshot, search_home, run_id, limits.trials, deadline, teacher_folders)
        if len(earlier_trials) < limits.trials or any(trial.state == "running" for trial in earlier_trials):
            processes.run_processes(order, limits.jobs)
        split = rows["split"].to_pylist()
        counts = {name: split.count(name) for name in ("train", "validation")}
        return _build_result(study, search_home, run_id, metric, counts, fields)


def _find_teachers(plan: Plan) -> dict[str, tuple[Path, str]]:
    """Return folder and digest of each teacher that a trial may have, by the recipe's name for it.

    Teachers are located once for all trials: a champion that changes meanwhile changes nothing in this search, but the
    next call starts another search.
    """
    first_choices = {field.path: field.ends[0] for field in plan.fields}
    recipes = [plan.recipe]
    for field in plan.fields:
        if field.path == "training" or field.path.startswith("training.distill"):
            recipes += [plan.recipe_of({**first_choices, field.path: choice}) for choice in field.choices]
    recipes_by_teacher = {
        recipe.training.distill.teacher: recipe for recipe in recipes if recipe.training.distill is not None
    }
    teachers = {}
    for name, recipe in recipes_by_teacher.items():
        teacher = teaching.find_teacher(recipe)
        if teacher is not None:
            teachers[name] = teacher
    return teachers


@contextlib.contextmanager
def _open_run(plan: Plan, home: Home, search_home: Home, fields: dict[str, str]) -> Iterator[str]:
    """Open the search's run in MLflow, FAILED if the block raises; the first process of the search holds the lock."""
    with contextlib.ExitStack() as stack:
        is_first = True
        try:
            stack.enter_context(home.lock("search", timeout=0, noted=True))
        except RegistryError:
            is_first = False
            logger.info("another process runs this search already; this one joins it")
        with search_home.lock("begin"):
            run_id = searches.open_search_run(RunContext(plan.recipe, home), search_home.model, fields)
        if is_first:
            unfinished.close_abandoned(home, plan.recipe.name, held_lock="search", except_run=run_id)
        with runs.fail_on_error(home, run_id):
            yield run_id


def _build_result(
    study: Study, home: Home, run_id: str, metric: str, rows: dict[str, int], fields: dict[str, str]
) -> Result:
    trials = study.list_trials()
    best = study.find_best()
    if best is None or best.value is None:
        reason = next((f": {trial.why}" for trial in trials if trial.why), "")
        raise TrainingError(f"none of {len(trials)} trials was completed{reason}; search other values, or for longer")
    pruned = sum(trial.state == "pruned" for trial in trials)
    chosen = ", ".join(f"{path} {format_value(value)}" for path, value in best.values.items())
    sentence = (
        f"{metric} {best.value:.4f} on {rows['validation']:,} validation rows with {chosen} "
        f"(trial {best.number} of {len(trials)}, {pruned} pruned)"
    )
    return Result(
        folder=str(home.model),
        run_id=run_id,
        metric=metric,
        falls=study.falls,
        rows=rows,
        fields=fields,
        trials=tuple(trials),
        best=best.number,
        value=best.value,
        values=best.values,
        importances=study.compute_importances(),
        sentence=sentence,
    )
