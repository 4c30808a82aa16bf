"""A bundle as MLflow keeps it: a logged model with its requirements, its signature and an example, one a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.objectives import module
from evertune.registry.tracking.store import client, experiment
from evertune.runtime.home import Home
from evertune.serving import bundle

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Candidate

DIGEST = "evertune.bundle"


def of(recipe: "Recipe", home: Home, candidate: "Candidate", examples: list[Any], required: list[str]) -> Any:
    """The run's logged model; one that a process left whole when it was killed is taken as it is.

    What it left in pieces is marked as deleted, so that `mlflow gc` frees its files.

    Args:
        examples: some inputs, for the model's input example; required: its requirements.
    Raises:
        MlflowException: MLflow refused.
    """
    from mlflow.entities import LoggedModelStatus

    mlflow, its = client(home), f"source_run_id = '{candidate.run_id}'"
    for one in mlflow.search_logged_models([experiment(home, recipe.name)], its):
        if one.status == LoggedModelStatus.READY and one.tags.get(DIGEST) == candidate.digest:
            return one
        mlflow.delete_logged_model(one.model_id)
    return _log(recipe, candidate, examples, required)


def _log(recipe: "Recipe", candidate: "Candidate", examples: list[Any], required: list[str]) -> Any:
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature

    roles = list(module(recipe.objective.type).INPUTS)
    frame = pd.DataFrame(examples if len(roles) > 1 else [[one] for one in examples], columns=roles)
    predictions = pd.DataFrame(bundle.predictor(Path(candidate.bundle)).predict(examples))
    with mlflow.start_run(run_id=candidate.run_id):
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"bundle": candidate.bundle},
            signature=infer_signature(frame, predictions),
            input_example=frame,
            pip_requirements=required,
            tags={DIGEST: candidate.digest},
        )
