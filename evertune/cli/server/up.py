"""`evertune up`: Prefect server, MLflow server and a worker on this machine, with every deployment registered."""

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from evertune.cli.server import deployments, prefect_pool, prefect_profile, prefect_server, server_key
from evertune.cli.server.prefect_pool import POOL, PREFECT
from evertune.cli.server.prefect_settings import check_server
from evertune.cli.server.processes import Processes, end_leftovers
from evertune.cli.server.server_key import ServerKey
from evertune.cli.terminal import make_console
from evertune.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.runtime.home import Home


PORT = click.IntRange(1, 65535)


@click.command()
@click.option("--port", type=PORT, default=4200, show_default=True, help="Port of the Prefect server.")
@click.option("--mlflow-port", type=PORT, default=5000, show_default=True, help="Port of the MLflow server.")
@click.option(
    "--prefect-file",
    type=click.Path(path_type=Path),
    default=Path("deployments/prefect.yaml"),
    show_default=True,
    help="File with the deployments.",
)
def up(port: int, mlflow_port: int, prefect_file: Path) -> None:
    """Start everything that `prefect deployment run 'retrain/NAME'` and the schedules need. Ctrl-C stops it.

    A server that PREFECT_API_URL or MLFLOW_TRACKING_URI names is used, and none is started for it.
    """
    from evertune.runtime.home import Home, find_home

    names = deployments.list_deployments(prefect_file)
    prefect_profile.keep_key_from_others()
    screen = make_console()
    home = Home(find_home(Path.cwd()), "up")
    environment = _build_environment(port, mlflow_port)
    url = environment["PREFECT_API_URL"]
    with _exclusive_up(screen), _handle_signals(), contextlib.ExitStack() as stack:
        _check_ports({"--port": port, "--mlflow-port": mlflow_port})
        _check_named_servers()
        home.load_identity()  # raises if the home is not writable
        key = server_key.ensure_key(home) if _starts_server("PREFECT_API_URL") else None
        processes = Processes(home.root / "up", _record_path())
        stack.callback(_stop_processes, processes, screen)
        screen.print(f"starting; logs in {home.root / 'up'}")
        _start_servers(processes, home, environment, key, port, mlflow_port)
        screen.print(f"Prefect   {url.removesuffix('/api')}")
        if key:
            _show_key(screen, key)
        screen.print(f"MLflow    {_redact_uri(environment['MLFLOW_TRACKING_URI'])}")
        if key and (crashed_runs := prefect_pool.mark_crashed_runs(url, key.text)):
            screen.print(f"marked as crashed, because their worker is gone: {', '.join(crashed_runs)}")
        if key:
            environment[server_key.CLIENT_VARIABLE] = key.text
        prefect_pool.register_deployments(prefect_file, environment)
        processes.start("worker", [*PREFECT, "worker", "start", "--pool", POOL], environment)
        screen.print(f"worker    of the work pool {POOL!r}")
        if key:
            previous_profile = stack.enter_context(prefect_profile.activate_profile(url, key.text))
            own_profile = prefect_profile.NAME
            screen.print(f"profile   {own_profile!r} is active in Prefect until this stops, then {previous_profile!r}")
        screen.print(f"{len(names)} deployments registered; in another terminal, for example:")
        screen.print(f"          {_format_command('prefect')} deployment run '{names[0]}' --watch")
        screen.print("Ctrl-C stops everything.")
        with contextlib.suppress(KeyboardInterrupt):
            _watch_processes(processes)


def _starts_server(variable: str) -> bool:
    """Whether a server is started here, because the environment names none."""
    return not os.environ.get(variable)


def _build_environment(port: int, mlflow_port: int) -> dict[str, str]:
    return {
        **os.environ,
        "PREFECT_API_URL": os.environ.get("PREFECT_API_URL") or f"http://127.0.0.1:{port}/api",
        "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI") or f"http://127.0.0.1:{mlflow_port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # with it, ten processes and 2 GB
        "PREFECT_LOGGING_EXTRA_LOGGERS": "evertune",
        "PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "5"),
        "EVERTUNE_PROJECT": str(Path.cwd()),
    }


@contextlib.contextmanager
def _exclusive_up(screen: "Console") -> Iterator[None]:
    """Allow one `evertune up` at a time for a PREFECT_HOME, and first clean up after one that was killed."""
    import filelock

    folder = prefect_profile.prefect_home()
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / "evertune-up.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RegistryError(
            f"`evertune up` already runs with this PREFECT_HOME ({folder}); stop it with Ctrl-C where it runs, "
            "or set another PREFECT_HOME (and --port, --mlflow-port) for a second one"
        ) from None
    with lock:
        if leftovers := end_leftovers(_record_path()):
            screen.print(f"stopped processes that a killed `evertune up` left running: {', '.join(leftovers)}")
        prefect_profile.restore_profile()
        yield
    lock.release()


def _record_path() -> Path:
    return prefect_profile.prefect_home() / "evertune-up.json"


@contextlib.contextmanager
def _handle_signals() -> Iterator[None]:
    """Stop the command in order on SIGINT, SIGTERM and a closed terminal, even if a script started it with `&`."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for handled_signal in handled_signals:
            signal.signal(handled_signal, signal.SIG_IGN)  # stopping takes seconds and must not be interrupted
        raise KeyboardInterrupt

    handled_signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        handled_signals.append(signal.SIGHUP)
    previous_handlers = {handled_signal: signal.signal(handled_signal, interrupt) for handled_signal in handled_signals}
    try:
        yield
    finally:
        for handled_signal, handler in previous_handlers.items():
            signal.signal(handled_signal, handler)


def _check_ports(ports: Mapping[str, int]) -> None:
    """Raise ConfigError if the port of a server to be started is in use, or both servers have the same."""
    problems = []
    if len(set(ports.values())) == 1 and _starts_server("PREFECT_API_URL") and _starts_server("MLFLOW_TRACKING_URI"):
        raise ConfigError(f"{' and '.join(ports)} are both {ports['--port']}; give the servers different ports")
    for variable, (option, port) in zip(("PREFECT_API_URL", "MLFLOW_TRACKING_URI"), ports.items(), strict=True):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                if _starts_server(variable):
                    probe.bind(("127.0.0.1", port))
            except OSError as error:
                problems.append(
                    f"{option} {port}: {os.strerror(error.errno or 0).lower()}; give another {option}, stop the "
                    f"program that uses it, or set {variable} to use a server that runs there"
                )
    if problems:
        raise ConfigError(problems)


def _check_named_servers() -> None:
    """Raise RegistryError if a server that a variable names does not answer."""
    from evertune.registry.tracking import store

    store.check_server()
    if url := os.environ.get("PREFECT_API_URL"):
        check_server(url)


def _start_servers(
    processes: Processes,
    home: "Home",
    environment: Mapping[str, str],
    key: ServerKey | None,
    port: int,
    mlflow_port: int,
) -> None:
    """Start the servers that no variable names, and wait until they answer.

    Args:
        key: for Prefect's server; None if a variable names one.
    """
    from evertune.registry.tracking import store

    if key:
        command = [sys.executable, "-m", "evertune.cli.server.prefect_server", str(port)]
        processes.start("prefect", command, _for_server(environment, key, port))
    store.open_client(home)  # creates the local store; two processes at once would ruin it
    if _starts_server("MLFLOW_TRACKING_URI"):
        processes.start("mlflow", _mlflow_command(home, store.tracking_uri(home), mlflow_port), environment)
        processes.wait_ready("mlflow", f"{environment['MLFLOW_TRACKING_URI']}/health")
    if key:
        processes.wait_ready("prefect", f"{environment['PREFECT_API_URL']}/health")
        _check_locked(environment["PREFECT_API_URL"])


def _for_server(environment: Mapping[str, str], key: ServerKey, port: int) -> dict[str, str]:
    """Return the environment of Prefect's server: its key, and the pages that may call it."""
    origins = os.environ.get("PREFECT_SERVER_CORS_ALLOWED_ORIGINS") or prefect_server.page_origins(port)
    return {
        **environment,
        server_key.SERVER_VARIABLE: key.text,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
    }


def _check_locked(url: str) -> None:
    """Raise RegistryError if the server answers without the key: its worker would run anybody's commands."""
    import httpx

    if httpx.get(f"{url}/admin/version", timeout=30).status_code != httpx.codes.UNAUTHORIZED:
        raise RegistryError(f"the Prefect server at {url.removesuffix('/api')} answers without its key; it is stopped")


def _show_key(screen: "Console", key: ServerKey) -> None:
    if key.renewed:
        screen.print(f"          the key was replaced: {key.renewed}")
    screen.print(f"          the password for the page is in {key.source}")


def _mlflow_command(home: "Home", store_uri: str, port: int) -> list[str]:
    artifacts = (home.root / "mlflow" / "artifacts").as_uri()
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        store_uri,
        "--no-serve-artifacts",
        "--default-artifact-root",
        artifacts,
    ]


def _watch_processes(processes: Processes) -> None:
    while True:
        processes.check_running()
        time.sleep(1)


def _stop_processes(processes: Processes, screen: "Console") -> None:
    screen.print("stopping; an interrupted run continues from its last checkpoint the next time")
    processes.stop_all()
    screen.print("stopped")


def _redact_uri(uri: str) -> str:
    from evertune.data.sources.redact import redact_url

    return redact_url(uri)


def _format_command(name: str) -> str:
    """Return how a person calls a command of this environment: by name if PATH finds it, else by path."""
    own_path = Path(sys.executable).with_name(name)
    path_command = shutil.which(name)
    if path_command and Path(path_command).resolve() == own_path.resolve():
        return name
    return str(own_path.relative_to(Path.cwd()) if own_path.is_relative_to(Path.cwd()) else own_path)
