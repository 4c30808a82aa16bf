"""The work of one process of a search: run trials until all have ended."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evertune.config import Plan, search
from evertune.config.load import make_plan
from evertune.objectives import load_objective
from evertune.records import Snapshot
from evertune.runtime import ipc
from evertune.runtime.home import Home
from evertune.search.study import Study
from evertune.search.trial import Trials

logger = logging.getLogger(__name__)
LOOK = 1.0  # seconds between two checks of the trials of other processes


@dataclass(frozen=True)
class SearchOrder(ipc.Order):
    """What a process of a search is told.

    Args:
        tree: the plan's tree, from which each process makes the plan.
        home: of the recipe.
        snapshot: of the corpus.
        search_home: of the search.
        run_id: of the search's run in MLflow.
        trials: number of trials of the whole search.
        deadline: time after which no trial begins; None without a limit.
        teachers: teacher as the recipe names it -> its folder, for all teachers that a trial may have.
    """

    tree: dict[str, Any]
    home: Home
    snapshot: Snapshot
    search_home: Home
    run_id: str
    trials: int
    deadline: float | None
    teachers: dict[str, Path] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The plan that the tree describes."""
        return make_plan(self.tree, search.find_fields(self.tree)[0], Path(self.tree["file"]))


def run_trials(order: SearchOrder) -> None:
    """Run trials until all have ended, those of other processes too, or the deadline is over.

    Raises:
        ConfigError: no trial can be trained, whatever its values.
        EvertuneError: a trial failed for a reason other than its values.
    """
    plan = order.plan
    falls = plan.recipe.metric in load_objective(plan.recipe.objective.type).LOWER_IS_BETTER
    study = Study(order.search_home, plan.fields, falls, plan.recipe.training.seed)
    trials = Trials(plan, order.home, order.snapshot, study, order.run_id, order.teachers)
    while True:
        may_begin = order.deadline is None or time.time() < order.deadline
        with study.claim_trial(order.trials, may_begin=may_begin) as claim:
            if claim is not None:
                trials.run_trial(claim)
                _log_result(study, claim.number, plan.recipe.metric)
        with order.search_home.lock("clean"):
            trials.remove_leftovers()
        if claim is None:
            if all(trial.state != "running" for trial in study.list_trials()):
                return
            time.sleep(LOOK)  # other processes are running trials, and may die


def _log_result(study: Study, number: int, metric: str) -> None:
    trial = study.list_trials()[number]
    best_trial = study.find_best()
    value = "" if trial.value is None else f"{metric} {trial.value:.4f}"
    if trial.state == "pruned":
        logger.info("trial %d: pruned%s", number, f", {trial.why}" if trial.why else f" at {value}")
    elif best_trial is not None:
        news = "best so far" if best_trial.number == number else f"best is trial {best_trial.number}"
        logger.info("trial %d: %s, %s", number, value, news)
