"""A bundle as a logged model of MLflow, with requirements, signature and an input example; one a run."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.objectives import load_objective
from evertune.registry.tracking.store import ensure_experiment, open_client
from evertune.serving import bundle

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models.model import ModelInfo

    from evertune.config import Recipe
    from evertune.objectives import Input
    from evertune.records import Candidate
    from evertune.runtime.context import RunContext

DIGEST = "evertune.bundle"


def ensure_logged_model(
    context: "RunContext", candidate: "Candidate", examples: "Sequence[Input]", requirements: list[str]
) -> "LoggedModel | ModelInfo":
    """Return the run's logged model; a complete one that a killed process left is reused.

    Incomplete ones are marked as deleted, so that `mlflow gc` frees their files.

    Args:
        examples: some inputs, for the model's input example.
        requirements: of the model, as pip reads them.
    Raises:
        MlflowException: MLflow refused.
    """
    from mlflow.entities import LoggedModelStatus

    mlflow = open_client(context.home)
    condition = f"source_run_id = '{candidate.run_id}'"
    for logged_model in mlflow.search_logged_models([ensure_experiment(context.home, context.recipe.name)], condition):
        if logged_model.status == LoggedModelStatus.READY and logged_model.tags.get(DIGEST) == candidate.digest:
            return logged_model
        mlflow.delete_logged_model(logged_model.model_id)
    return _log_model(context.recipe, candidate, examples, requirements)


def _log_model(
    recipe: "Recipe", candidate: "Candidate", examples: "Sequence[Input]", requirements: list[str]
) -> "ModelInfo":
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature

    roles = list(load_objective(recipe.objective.type).INPUTS)
    frame = pd.DataFrame(examples if len(roles) > 1 else [[value] for value in examples], columns=roles)
    predictions = pd.DataFrame(bundle.load_predictor(Path(candidate.bundle)).predict(examples))
    with mlflow.start_run(run_id=candidate.run_id), _skip_package_map():
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"bundle": candidate.bundle},
            signature=infer_signature(frame, predictions),
            input_example=frame,
            pip_requirements=requirements,
            tags={DIGEST: candidate.digest},
        )


@contextlib.contextmanager
def _skip_package_map() -> Iterator[None]:
    """Spare MLflow the reading of what every installed package contains, which takes over a second.

    It looks for packages there that have no version of their own; the requirements are of installed versions.
    """
    from mlflow.utils import requirements_utils

    before = requirements_utils._MODULES_TO_PACKAGES
    requirements_utils._MODULES_TO_PACKAGES = before or {}
    try:
        yield
    finally:
        requirements_utils._MODULES_TO_PACKAGES = before
