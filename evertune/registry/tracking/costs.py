"""What trainings have cost, as MLflow has it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from evertune.registry.tracking import unfinished
from evertune.registry.tracking.store import ensure_experiment, open_client, translate_errors
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe

SECONDS = "training_seconds"
SHARE = "trained_share"  # of the parameters


def sum_training_seconds(recipe: "Recipe", home: Home, moment: datetime) -> float:
    """Seconds of training in the runs of a recipe that began at this moment or later.

    Of a run that failed before its training ended, all its time counts. So does what a clock that was ahead has dated
    into the future: a budget that is spent must not come back by a wrong clock.

    Raises:
        RegistryError: MLflow does not answer.
    """
    mlflow = open_client(home)
    token = None
    total = 0.0
    condition = f"attributes.start_time >= {int(moment.timestamp() * 1000)}"
    with translate_errors("the trainings of the last days"):
        experiment_id = ensure_experiment(home, recipe.name)
        while True:
            page = mlflow.search_runs([experiment_id], condition, page_token=token)
            total += sum(_count_seconds(run) for run in page)
            if not (token := page.token):
                return total


def _count_seconds(run: Any) -> float:
    if (seconds := run.data.metrics.get(SECONDS)) is not None:
        return float(seconds)
    if unfinished.kind_of(run) != "run" or run.info.end_time is None:  # no training, or one at work
        return 0.0
    return max(0.0, float(run.info.end_time - run.info.start_time) / 1000)
