"""Which MLflow is used, set up once; and its errors in words that say what to do."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from evertune.errors import RegistryError
from evertune.home import Home
from evertune.secrets import hidden


def client(home: Home) -> Any:
    """An `MlflowClient` of MLFLOW_TRACKING_URI, else of the SQLite store in the home, made ready if it is new.

    Raises:
        RegistryError: a server is named and does not answer.
    """
    reach()
    uri = tracking_uri(home)
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # there only our own results go
    # Alembic tells of every migration of a new database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if not (uri.startswith("http") or (home.root / "mlflow" / "ready").exists()):
        _prepare(home, uri)
    import mlflow

    with _environment_kept():
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(os.environ.get("MLFLOW_REGISTRY_URI", uri))
    return mlflow.MlflowClient()


def tracking_uri(home: Home) -> str:
    """MLFLOW_TRACKING_URI, else SQLite in the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.root / 'mlflow' / 'mlflow.db'}"


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """MLflow writes what it is told into the environment, where it would pass for the user's wish."""
    had = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    try:
        yield
    finally:
        for name, value in had.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def experiment(home: Home, name: str) -> str:
    """The id of the recipe's experiment, made where it is missing."""
    mlflow = client(home)
    with said(f"the experiment {name}"), home.lock("experiment"):
        found = mlflow.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        local = None if os.environ.get("MLFLOW_TRACKING_URI") else (home.root / "mlflow" / "artifacts").as_uri()
        return str(mlflow.create_experiment(name, artifact_location=local))


def _prepare(home: Home, uri: str) -> None:
    """Make the database under a lock: several processes that meet a fresh one at once ruin it."""
    (home.root / "mlflow").mkdir(parents=True, exist_ok=True)
    with home.lock("home", timeout=120):
        if (home.root / "mlflow" / "ready").exists():
            return
        import mlflow

        mlflow.MlflowClient(uri).search_experiments(max_results=1)
        (home.root / "mlflow" / "ready").touch()


def reach() -> None:
    """Ask the server that MLFLOW_TRACKING_URI names, if any, for a sign of life: MLflow itself would try for minutes.

    Raises:
        RegistryError: it does not answer, or is a folder.
    """
    import requests

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("file:") or (uri and ":" not in uri):
        raise RegistryError(
            f"MLFLOW_TRACKING_URI={uri}: MLflow has no file store any more; name a server (http://...) or a database "
            "(sqlite:///...), or unset it to use the local store"
        )
    if not uri.startswith("http"):
        return
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=5)
    except requests.RequestException:
        parts = urlsplit(uri)
        raise RegistryError(
            f"the MLflow server at {parts.scheme}://{parts.netloc.rpartition('@')[2]} does not answer; "
            "start it, or unset MLFLOW_TRACKING_URI to use the local store"
        ) from None  # the chain may show the password


@contextlib.contextmanager
def said(what: str) -> Iterator[None]:
    """Turn an MLflow error about `what` into another.

    Raises:
        RegistryError: MLflow raised.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, ImportError) as error:
        raise RegistryError(refusal(what, error)) from None  # the chain would show the address with its password


def refusal(what: str, error: Exception) -> str:
    """What is said of an error about `what`: its first line, without secrets."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"MLflow refused {what}: {hidden(first)}"
