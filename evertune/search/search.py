"""Search a recipe's open fields for the values that do best on the validation rows: many trainings, resumable at any
moment, in as many processes as there are."""

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
from evertune.config.search import told
from evertune.errors import RegistryError, TrainingError
from evertune.objectives import module
from evertune.records import Snapshot, digest, plain
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking import searches, unfinished
from evertune.registry.versions import teaching
from evertune.report.pages import search as pages
from evertune.runtime.home import Home
from evertune.search import processes, recipe_text
from evertune.search.study import Study, Trial
from evertune.search.trial import rows_of, tokenized, without_champion
from evertune.search.work import Order

__all__ = ["Limits", "Result", "Trial", "concluded", "run"]
logger = logging.getLogger(__name__)
STEP_VERSION = 1  # raise it when the same trial would end otherwise


@dataclass(frozen=True)
class Limits:
    """How long a search goes on.

    Args:
        trials: in all; hours: of this call, after which no trial begins; jobs: processes of this call.
    """

    trials: int = 20
    hours: float | None = None
    jobs: int = 1


@dataclass(frozen=True)
class Result:
    """What a search has found.

    Args:
        rows: by split, those that trials saw; importances: each field's share of the metric's changes.
        best: number of the best trial; values: its fields', by path.
        sentence: for a person.
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
    values: dict[str, Any]
    importances: dict[str, float]
    sentence: str


def concluded(
    plan: Plan, home: Home, snapshot: Snapshot, limits: Limits, output: Path, command: str
) -> dict[str, Any]:  # fmt: skip
    """Search, write the best recipe and the report, and end the run in MLflow; JSON-ready, with the paths of both.

    Args:
        output: of the best recipe; command: that this search was asked for with.
    Raises:
        ConfigError: the recipe cannot be written, or as `run`.
        EvertuneError: as `run`.
    """
    result = run(plan, home, snapshot, limits)
    found = plain(result)
    written = [f"Found by a search: {command}", result.sentence, f"Rows: version {snapshot.version} of the corpus."]
    recipe_text.write(plan, result.values, output, written)
    page = pages.page(Path(result.folder) / "report", found, plan.recipe.name)
    shutil.copy(output, page.with_name("best.yaml"))
    best = {plan.recipe.metric: result.value, "best_trial": float(result.best), "trials": float(len(result.trials))}
    searches.finish(home, result.run_id, best, f"**Best**: {result.sentence}", page.parent)
    return {**found, "recipe": str(output), "report": str(page)}


def run(plan: Plan, home: Home, snapshot: Snapshot, limits: Limits) -> Result:
    """Search, with all other processes that search the same in this home; what an earlier call has done counts.

    Raises:
        ConfigError: the base model does not fit, there is no such teacher, or no values mend what is wrong.
        DataError: too little to learn from, or no validation rows.
        TrainingError: a training failed, or no trial came to its end.
        RegistryError: MLflow does not answer.
    """
    until = None if limits.hours is None else time.time() + 3600 * limits.hours
    recipe, metric = without_champion(plan.recipe), plan.recipe.metric
    rows = rows_of(recipe, home, snapshot)
    tokens = tokenized(recipe, home, snapshot, rows)
    fields = {one.path: one.words for one in plan.fields}
    teachers = _teachers(plan)
    taught = digest({name: mark for name, (_, mark) in teachers.items()}) if teachers else None
    key = digest(STEP_VERSION, training.fingerprint(recipe, tokens, None, taught), fields)
    own = Home(home.root, f"{home.name}/searches/{key[:16]}")
    own.model.mkdir(parents=True, exist_ok=True)
    with _known(plan, home, own, fields) as run_id:
        falls = metric in module(recipe.objective.type).LOWER_IS_BETTER
        study = Study(own, plan.fields, falls, recipe.training.seed)
        before = study.trials()
        if before:
            logger.info("%d of %d trials were begun before", len(before), limits.trials)
        places = {name: place for name, (place, _) in teachers.items()}
        order = Order(plan.tree, home, snapshot, own, run_id, limits.trials, until, places)
        if len(before) < limits.trials or any(one.state == "running" for one in before):
            processes.run(order, limits.jobs)
        split = rows["split"].to_pylist()
        counts = {name: split.count(name) for name in ("train", "validation")}
        return _result(study, own, run_id, metric, counts, fields)


def _teachers(plan: Plan) -> dict[str, tuple[Path, str]]:
    """Folder and digest of each teacher that a trial may have, by what the recipe calls it: found once for all trials,
    so that a champion that changes meanwhile changes nothing, and makes the next search another one."""
    first = {one.path: one.ends[0] for one in plan.fields}
    recipes = [plan.recipe]
    for one in plan.fields:
        if one.path == "training" or one.path.startswith("training.distill"):
            recipes += [plan.recipe_of({**first, one.path: choice}) for choice in one.choices]
    asked = {one.training.distill.teacher: one for one in recipes if one.training.distill is not None}
    found = {name: teaching.find(one) for name, one in asked.items()}
    return {name: one for name, one in found.items() if one is not None}


@contextlib.contextmanager
def _known(plan: Plan, home: Home, own: Home, fields: dict[str, str]) -> Iterator[str]:
    """The search's run in MLflow, FAILED where the block raises; the first process at it has the lock."""
    with contextlib.ExitStack() as held:
        first = True
        try:
            held.enter_context(home.lock("search", timeout=0, noted=True))
        except RegistryError:
            first = False
            logger.info("another process searches here already; this one works beside it")
        with own.lock("begin"):
            run_id = searches.begin(plan.recipe, home, own.model, fields)
        if first:
            unfinished.close(home, plan.recipe.name, holding="search", but=run_id)
        with tracking.failing(home, run_id):
            yield run_id


def _result(
    study: Study, own: Home, run_id: str, metric: str, rows: dict[str, int], fields: dict[str, str]
) -> Result:  # fmt: skip
    trials, best = study.trials(), study.best()
    if best is None or best.value is None:
        why = next((f": {one.why}" for one in trials if one.why), "")
        raise TrainingError(f"none of {len(trials)} trials came to its end{why}; search other values, or for longer")
    pruned = sum(one.state == "pruned" for one in trials)
    chosen = ", ".join(f"{path} {told(value)}" for path, value in best.values.items())
    sentence = (
        f"{metric} {best.value:.4f} on {rows['validation']:,} validation rows with {chosen} "
        f"(trial {best.number} of {len(trials)}, {pruned} pruned)"
    )
    return Result(
        str(own.model), run_id, metric, study.falls, rows, fields, tuple(trials), best.number, best.value, best.values,
        study.importances(), sentence,
    )  # fmt: skip
