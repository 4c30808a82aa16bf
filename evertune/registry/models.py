"""Registered models: one version a run, and the aliases `champion` and `challenger`."""

import logging
import os
from importlib.metadata import version as library
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune import bundle
from evertune.errors import RegistryError
from evertune.home import Home
from evertune.objectives import module
from evertune.registry import ledger
from evertune.registry.store import client, said

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Candidate

logger = logging.getLogger(__name__)
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "tokenizers", "torch", "transformers")


def champion(home: Home, name: str) -> int | None:
    """The version in use; None where there is none yet.

    Raises:
        RegistryError: MLflow does not answer.
    """
    return alias(home, name, "champion")


def alias(home: Home, name: str, which: str) -> int | None:
    """The version that an alias names; None where there is none.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        return int(client(home).get_model_version_by_alias(name, which).version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise RegistryError(f"MLflow refused the alias {which} of {name}: {str(error).splitlines()[0]}") from error


def register(recipe: "Recipe", home: Home, candidate: "Candidate", examples: list[Any]) -> int:
    """Log the bundle as an MLflow model and register it; a run has one version, however often this is called.

    Args:
        examples: some inputs, for the model's input example.
    Raises:
        RegistryError: MLflow refused.
    """
    mlflow, name = client(home), recipe.registered_name
    with said(f"the model {name}"):
        found = [one for one in mlflow.search_model_versions(f"name='{name}'") if one.run_id == candidate.run_id]
        if found:
            return int(found[0].version)
        logged = _log_model(recipe, candidate, examples)
        _ensure_registered(mlflow, name)
        snapshot = candidate.tokens.snapshot
        made = mlflow.create_model_version(
            name, logged.model_uri, run_id=candidate.run_id, model_id=logged.model_id,  # a server asks for both
            tags={
                "evertune.snapshot": str(snapshot.version), "evertune.fingerprint": snapshot.fingerprint,
                "evertune.bundle": candidate.digest, "evertune.decision": "pending",
            },
        )  # fmt: skip
    return int(made.version)


def _ensure_registered(mlflow: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log_model(recipe: "Recipe", candidate: "Candidate", examples: list[Any]) -> Any:
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature

    role = next(iter(module(recipe.objective.type).COLUMNS))
    frame = pd.DataFrame({role: examples})
    predictions = pd.DataFrame(bundle.predictor(Path(candidate.bundle)).predict(examples))
    with mlflow.start_run(run_id=candidate.run_id):
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"bundle": candidate.bundle},
            signature=infer_signature(frame, predictions),
            input_example=frame,
            pip_requirements=[f"{name}=={library(name).partition('+')[0]}" for name in REQUIREMENTS],
        )


def bundle_of(home: Home, name: str, version: int) -> Path:
    """The bundle folder of a registered version, fetched where the store is remote.

    Raises:
        RegistryError: the version or its files are not there.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client(home)
    kept = home.model / "fetched" / str(version)
    try:
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        kept.mkdir(parents=True, exist_ok=True)
        found = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(kept)))
        folder = next(path.parent for path in found.rglob("evertune.json"))
    except (MlflowException, OSError, StopIteration) as error:
        raise RegistryError(
            f"version {version} of {name} is registered, but its files cannot be read ({type(error).__name__}: {error}); "
            "restore the artifact store, or roll back to a version that is whole with `evertune rollback`"
        ) from error
    return folder


def move_champion(home: Home, name: str, to: int, *, expected: int | None, **facts: Any) -> None:
    """Move the alias, under the model's lock: intent, check, alias, confirmation.

    Args:
        expected: the champion that the decision was made against.
        facts: reason, evidence and whatever the ledger shall keep.
    Raises:
        RegistryError: somebody moved the champion since; nothing is changed.
    """
    with home.lock("champion"):
        repair(home, name)
        now = champion(home, name)
        if now != expected:
            raise RegistryError(
                f"the champion of {name} is version {now}, not {expected} as when this was decided; run again"
            )
        ledger.append(home, "intent", **{**facts, "from": now, "to": to})
        with said("the alias champion"):
            client(home).set_registered_model_alias(name, "champion", str(to))
        ledger.append(home, "moved", **{**facts, "from": now, "to": to})


def repair(home: Home, name: str) -> None:
    """Finish the record of a move that a crash cut off, and record moves that others made."""
    now, intent = champion(home, name), ledger.open_intent(home)
    if intent is not None and now == intent["to"]:
        ledger.append(
            home, "moved", **{"from": intent["from"], "to": now, "reason": intent.get("reason"), "repaired": True}
        )
    elif intent is not None:
        ledger.append(
            home,
            "abandoned",
            **{"from": intent["from"], "to": intent["to"], "reason": "interrupted before the alias moved"},
        )
    if now != ledger.last_known(home):
        logger.warning("the champion of %s was moved to version %s outside Evertune", name, now)
        ledger.append(
            home, "external", **{"from": ledger.last_known(home), "to": now, "reason": "moved outside Evertune"}
        )


def set_challenger(home: Home, name: str, version: int) -> None:
    """Point the alias `challenger` at a version."""
    with said("the alias challenger"):
        client(home).set_registered_model_alias(name, "challenger", str(version))


def tag(home: Home, name: str, version: int, **tags: Any) -> None:
    """Set tags `evertune.NAME` of a version."""
    for key, value in tags.items():
        client(home).set_model_version_tag(name, str(version), f"evertune.{key}", str(value))


def versions(home: Home, name: str) -> list[Any]:
    """All registered versions, oldest first, with their tags."""
    with said(f"the versions of {name}"):
        return sorted(client(home).search_model_versions(f"name='{name}'"), key=lambda one: int(one.version))
