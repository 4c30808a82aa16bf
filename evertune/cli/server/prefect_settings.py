"""Prefect's settings for a run in this process: quiet, without heartbeats, on a given or a temporary server."""

import base64
import contextlib
import functools
import importlib
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from evertune.cli.server import prefect_profile, server_key
from evertune.errors import RegistryError
from evertune.runtime.secrets import strip_credentials

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def quiet_prefect(debug: bool, needed: Iterable[str]) -> Iterator[None]:
    """Run flows within this block, on the server that PREFECT_API_URL names, or else on a temporary one.

    Args:
        debug: show Prefect's log.
        needed: modules that the flow will need, imported while a temporary server starts.
    Raises:
        RegistryError: the named server does not answer, or refuses the key.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "DEBUG" if debug else "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "evertune")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "60")
    with contextlib.ExitStack() as stack:
        if "PREFECT_API_URL" not in os.environ:
            # A profile may name a server that runs no more; this run must not depend on it.
            os.environ["PREFECT_PROFILE"] = "ephemeral"
            os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
            stack.enter_context(_key_in_environment())
            logger.info("starting Prefect's temporary server")
            _start_server(needed)
            stack.enter_context(_key_in_settings())
        else:
            prefect_profile.keep_key_from_others()
            check_server(os.environ["PREFECT_API_URL"])
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        stack.enter_context(temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}))
        yield


@functools.cache
def _temporary_key() -> str:
    """Return the key of the temporary server, which shares a database with the worker of `evertune up`."""
    return server_key.new_key()


@contextlib.contextmanager
def _key_in_environment() -> Iterator[None]:
    """Pass the key to the temporary server and to child processes; no web page may call the server."""
    values = {
        server_key.SERVER_VARIABLE: _temporary_key(),
        server_key.CLIENT_VARIABLE: _temporary_key(),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _key_in_settings() -> Iterator[None]:
    """Make Prefect send the key even if it read the environment earlier."""
    from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

    with temporary_settings({PREFECT_API_AUTH_STRING: _temporary_key()}):
        yield


def _start_server(needed: Iterable[str]) -> None:
    """Start Prefect's temporary server, and meanwhile import what the flow needs."""
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(_start_locked_server)
        for name in needed:
            importlib.import_module(name)
        future.result()


def _start_locked_server() -> None:
    """Start the server while no other run does: two that create or upgrade a database at once ruin it."""
    import filelock
    from prefect.server.api.server import SubprocessASGIServer

    prefect_profile.prefect_home().mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(prefect_profile.prefect_home() / "evertune-server.lock"):
        SubprocessASGIServer().start()


def check_server(url: str) -> None:
    """Check that a Prefect API answers and accepts the key in Prefect's settings.

    Raises:
        RegistryError: it does not answer, or refuses the key.
    """
    import httpx

    no_answer = (
        f"the Prefect server at {strip_credentials(url).removesuffix('/api')} does not answer; "
        "start it (`evertune up`), or unset PREFECT_API_URL to run without one"
    )
    try:
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

        key = PREFECT_API_AUTH_STRING.value()
        token = PREFECT_API_KEY.value()
    except ValueError:  # of pydantic: Prefect reads all of its settings first, and refuses what is no URL
        raise RegistryError(no_answer) from None
    headers = {}
    if key:
        headers["Authorization"] = f"Basic {base64.b64encode(key.encode()).decode()}"
    elif token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        # Not /health, which needs no key. Prefect Cloud has no such page, but its refusal is an answer too.
        answer = httpx.get(f"{url.rstrip('/')}/admin/version", headers=headers, timeout=5)
        if answer.is_server_error:
            answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        raise RegistryError(no_answer) from None  # the chain may show the password
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise RegistryError(
            f"the Prefect server at {strip_credentials(url).removesuffix('/api')} refuses the key; set "
            "PREFECT_API_AUTH_STRING to the server's key (`evertune up` stores it as prefect-key in its home)"
        )
