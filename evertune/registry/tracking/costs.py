"""What trainings have cost, as MLflow has it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from evertune.registry.tracking import unfinished
from evertune.registry.tracking.store import client, experiment, said
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe

SECONDS = "training_seconds"
SHARE = "trained_share"  # of the parameters


def trained_since(recipe: "Recipe", home: Home, moment: datetime) -> float:
    """Seconds of training in the runs of a recipe that began at this moment or later.

    Of a run that failed before its training ended, all its time counts. So does what a clock that was ahead has dated
    into the future: a budget that is spent must not come back by a wrong clock.

    Raises:
        RegistryError: MLflow does not answer.
    """
    mlflow, token, total = client(home), None, 0.0
    since = f"attributes.start_time >= {int(moment.timestamp() * 1000)}"
    with said("the trainings of the last days"):
        place = experiment(home, recipe.name)
        while True:
            page = mlflow.search_runs([place], since, page_token=token)
            total += sum(_seconds(run) for run in page)
            if not (token := page.token):
                return total


def _seconds(run: Any) -> float:
    if (told := run.data.metrics.get(SECONDS)) is not None:
        return float(told)
    if unfinished.kind_of(run) != "run" or run.info.end_time is None:  # no training, or one at work
        return 0.0
    return max(0.0, float(run.info.end_time - run.info.start_time) / 1000)
