"""Prefect's settings for a run from the command line: quiet, without heartbeats, on the server that is there."""

import contextlib
import importlib
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from evertune.cli.server import prefect_profile
from evertune.errors import RegistryError
from evertune.runtime.secrets import bare

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def quiet_prefect(debug: bool, needed: Iterable[str]) -> Iterator[None]:
    """Run flows within this block; PREFECT_API_URL names the server, else a temporary one is started.

    Args:
        needed: modules that the flow will need, imported while a temporary server starts.
    Raises:
        RegistryError: a server is named and does not answer.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "DEBUG" if debug else "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "evertune")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "60")
    if "PREFECT_API_URL" not in os.environ:
        # A profile may name a server of another day; this run does not depend on it.
        os.environ["PREFECT_PROFILE"] = "ephemeral"
        os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
        logger.info("starting Prefect's temporary server")
        _start_server(needed)
    else:
        reach(os.environ["PREFECT_API_URL"])
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def _start_server(needed: Iterable[str]) -> None:
    """Start Prefect's temporary server, and import what the flow needs until it answers."""
    with ThreadPoolExecutor(1) as other:
        started = other.submit(_server_alone)
        for name in needed:
            importlib.import_module(name)
        started.result()


def _server_alone() -> None:
    """Start it while no other run does: two that meet a fresh database at once, or one to be upgraded, ruin it."""
    import filelock
    from prefect.server.api.server import SubprocessASGIServer

    prefect_profile.folder().mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(prefect_profile.folder() / "evertune-server.lock"):
        SubprocessASGIServer().start()


def reach(url: str) -> None:
    """Ask a Prefect API for a sign of life.

    Raises:
        RegistryError: it does not answer.
    """
    import httpx

    try:
        answer = httpx.get(f"{url.rstrip('/')}/health", timeout=5)
        if answer.is_server_error:  # another refusal is an answer: Prefect Cloud has no such page
            answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        raise RegistryError(
            f"the Prefect server at {bare(url).removesuffix('/api')} does not answer; "
            "start it (`evertune up`), or unset PREFECT_API_URL to run without one"
        ) from None  # the chain may show the password
