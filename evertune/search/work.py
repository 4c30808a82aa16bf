"""The work of one process of a search: trial after trial, until all have ended."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evertune.config import Plan, search
from evertune.config.load import make_plan
from evertune.objectives import load_objective
from evertune.records import Snapshot
from evertune.runtime.home import Home
from evertune.search.study import Study
from evertune.search.trial import Trials

logger = logging.getLogger(__name__)
LOOK = 1.0  # seconds between two looks at the trials of other processes


@dataclass(frozen=True)
class Order:
    """What a process is told.

    Args:
        tree: of the plan; own: home of the search; run_id: of its run in MLflow.
        trials: in all; until: time at which no new trial begins any more.
        teachers: folder of each that a trial may have, by what the recipe calls it.
    """

    tree: dict[str, Any]
    home: Home
    snapshot: Snapshot
    own: Home
    run_id: str
    trials: int
    until: float | None
    teachers: dict[str, Path] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The plan of the tree."""
        return make_plan(self.tree, search.find_fields(self.tree)[0], Path(self.tree["file"]))


def run_trials(order: Order) -> None:
    """Take trial after trial until all have ended, those of other processes too, or the time is over.

    Raises:
        ConfigError: no trial can be trained, whatever its values.
        EvertuneError: a trial could not be trained for a reason that is not in its values.
    """
    plan = order.plan
    falls = plan.recipe.metric in load_objective(plan.recipe.objective.type).LOWER_IS_BETTER
    study = Study(order.own, plan.fields, falls, plan.recipe.training.seed)
    trials = Trials(plan, order.home, order.snapshot, study, order.run_id, order.teachers)
    while True:
        with study.claim_trial(order.trials, may_begin=order.until is None or time.time() < order.until) as claim:
            if claim is not None:
                trials.run_trial(claim)
                _log_result(study, claim.number, plan.recipe.metric)
        with order.own.lock("clean"):
            trials.remove_leftovers()
        if claim is None:
            if all(trial.state != "running" for trial in study.list_trials()):
                return
            time.sleep(LOOK)  # others are at work, and may die


def _log_result(study: Study, number: int, metric: str) -> None:
    trial = study.list_trials()[number]
    best_trial = study.find_best()
    value = "" if trial.value is None else f"{metric} {trial.value:.4f}"
    if trial.state == "pruned":
        logger.info("trial %d: pruned%s", number, f", {trial.why}" if trial.why else f" at {value}")
    elif best_trial is not None:
        news = "the best so far" if best_trial.number == number else f"trial {best_trial.number} is best"
        logger.info("trial %d: %s, %s", number, value, news)
