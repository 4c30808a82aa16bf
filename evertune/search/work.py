"""The work of one process of a search: trial after trial, until all have ended."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evertune.config import Plan, search
from evertune.config.load import planned
from evertune.objectives import module
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
        return planned(self.tree, search.found(self.tree)[0], Path(self.tree["file"]))


def work(order: Order) -> None:
    """Take trial after trial until all have ended, those of other processes too, or the time is over.

    Raises:
        ConfigError: no trial can be trained, whatever its values.
        EvertuneError: a trial could not be trained for a reason that is not in its values.
    """
    plan = order.plan
    falls = plan.recipe.metric in module(plan.recipe.objective.type).LOWER_IS_BETTER
    study = Study(order.own, plan.fields, falls, plan.recipe.training.seed)
    trials = Trials(plan, order.home, order.snapshot, study, order.run_id, order.teachers)
    while True:
        with study.next(order.trials, begin=order.until is None or time.time() < order.until) as taken:
            if taken is not None:
                trials.run(taken)
                _tell(study, taken.number, plan.recipe.metric)
        with order.own.lock("clean"):
            trials.clean()
        if taken is None:
            if all(one.state != "running" for one in study.trials()):
                return
            time.sleep(LOOK)  # others are at work, and may die


def _tell(study: Study, number: int, metric: str) -> None:
    ended, best = study.trials()[number], study.best()
    value = "" if ended.value is None else f"{metric} {ended.value:.4f}"
    if ended.state == "pruned":
        logger.info("trial %d: pruned%s", number, f", {ended.why}" if ended.why else f" at {value}")
    elif best is not None:
        news = "the best so far" if best.number == number else f"trial {best.number} is best"
        logger.info("trial %d: %s, %s", number, value, news)
