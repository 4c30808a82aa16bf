"""The MLflow store in use, and MLflow's errors in words that say what to do."""

import contextlib
import functools
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import RegistryError
from evertune.runtime.home import Home
from evertune.runtime.secrets import hide_secrets, strip_credentials

if TYPE_CHECKING:
    import mlflow


def open_client(home: Home) -> "mlflow.MlflowClient":
    """Return an `MlflowClient` of MLFLOW_TRACKING_URI, else of the home's SQLite store, which is created if missing.

    Raises:
        RegistryError: the store of MLFLOW_TRACKING_URI does not answer, or cannot be one.
    """
    check_server()
    uri = tracking_uri(home)
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output is for our own results
    # Alembic logs every migration of a new database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    import mlflow

    with translate_errors(f"the store {uri}"), _lock_database(home, uri), _restore_environment():
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(os.environ.get("MLFLOW_REGISTRY_URI", uri))
        return _client_class()()


@functools.cache
def _client_class() -> "type[mlflow.MlflowClient]":
    """Return `MlflowClient` without its check, before each call, whether the name is a prompt's.

    The check loads every version of the model, some ten times a run. With a thousand versions that takes a tenth of a
    second a run, and it grows.
    """
    import mlflow

    class Client(mlflow.MlflowClient):  # type: ignore[misc]
        def _raise_if_prompt(self, name: str) -> None:
            """Do nothing: Evertune uses no prompts."""

    return Client


def create_own_store(home: Home) -> None:
    """Create the home's own store if it is in use and missing; its first opening takes seconds.

    Raises:
        RegistryError: the store cannot be opened.
    """
    if tracking_uri(home) == _own_uri(home) and not _database_path(home).exists():
        open_client(home)


def tracking_uri(home: Home) -> str:
    """Return MLFLOW_TRACKING_URI, else the address of the SQLite store in the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _own_uri(home)


def _own_uri(home: Home) -> str:
    return f"sqlite:///{_database_path(home)}"


def _database_path(home: Home) -> Path:
    return home.root / "mlflow" / "mlflow.db"


@contextlib.contextmanager
def _restore_environment() -> Iterator[None]:
    """Undo what MLflow writes into the environment, where it would look like a setting of the user."""
    previous = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def ensure_experiment(home: Home, name: str) -> str:
    """Return the id of the recipe's experiment, which is created if missing.

    Args:
        name: of the recipe.
    Raises:
        RegistryError: MLflow does not answer.
    """
    mlflow = open_client(home)
    with translate_errors(f"the experiment {name}"), home.lock("experiment"):
        existing = mlflow.get_experiment_by_name(name)
        if existing is not None:
            return str(existing.experiment_id)
        local = (home.root / "mlflow" / "artifacts").as_uri() if tracking_uri(home) == _own_uri(home) else None
        return str(mlflow.create_experiment(name, artifact_location=local))


@contextlib.contextmanager
def _lock_database(home: Home, uri: str) -> Iterator[None]:
    """Let one process at a time open a database: several that open a new one at once damage it."""
    if uri.startswith("http"):
        yield
        return
    with home.lock("home", timeout=120):
        if uri == _own_uri(home) and not _database_path(home).exists():
            _create_database(_database_path(home))
        yield


def _create_database(database: Path) -> None:
    """Create the home's own database under another name first: a half-created one could never be opened again."""
    import mlflow

    scratch = database.with_name(f"new-{uuid.uuid4().hex[:8]}.db")  # MLflow caches open databases by name
    database.parent.mkdir(parents=True, exist_ok=True)
    for leftover in database.parent.glob("new-*.db*"):
        leftover.unlink()
    mlflow.MlflowClient(f"sqlite:///{scratch}").search_experiments(max_results=1)
    scratch.rename(database)


def check_server() -> None:
    """Check that the server of MLFLOW_TRACKING_URI, if set, answers; MLflow itself would retry for minutes.

    Raises:
        RegistryError: it does not answer, or MLFLOW_TRACKING_URI is a folder, or a file in a missing folder.
    """
    import requests

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("file:") or (uri and ":" not in uri):
        raise RegistryError(
            f"MLFLOW_TRACKING_URI={uri}: MLflow no longer has a file store; set it to a server (http://...) or "
            "a database (sqlite:///...), or unset it to use the local store"
        )
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith("sqlite:///") and not file.parent.is_dir():
        raise RegistryError(
            f"MLFLOW_TRACKING_URI={uri}: the folder {file.parent} does not exist; "
            "correct the address, or create the folder"
        )
    if not uri.startswith("http"):
        return
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=5)
    except (requests.RequestException, ValueError):
        raise RegistryError(
            f"the MLflow server at {strip_credentials(uri)} does not answer; "
            "start it, or unset MLFLOW_TRACKING_URI to use the local store"
        ) from None  # the chained error may show the password


@contextlib.contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Turn errors of MLflow into a `RegistryError`.

    Args:
        what: what MLflow is asked for, in words, such as `the alias champion`.
    Raises:
        RegistryError: MLflow raised.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, ImportError) as error:
        raise RegistryError(
            describe_refusal(what, error)
        ) from None  # the chained error would show the address with its password


def describe_refusal(what: str, error: Exception) -> str:
    """Return an MLflow error in words: its first line, without secrets.

    Args:
        what: as for `translate_errors`.
    """
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    advice = "; install it" if isinstance(error, ImportError) else ""
    return hide_secrets(f"MLflow refused {what}: {first_line}{advice}")
