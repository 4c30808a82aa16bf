"""`evertune up`: Prefect server, MLflow server and a worker on this machine, with every deployment registered."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from evertune.cli.terminal import console
from evertune.errors import ConfigError, RegistryError

POOL = "evertune"
WAIT = 90.0  # seconds that a server may take to answer: a first start makes its database


@click.command()
@click.option("--port", default=4200, show_default=True, help="Prefect server.")
@click.option("--mlflow-port", default=5000, show_default=True, help="MLflow server.")
@click.option(
    "--prefect-file", type=click.Path(path_type=Path), default=Path("deployments/prefect.yaml"), show_default=True
)
def up(port: int, mlflow_port: int, prefect_file: Path) -> None:
    """Start everything that `prefect deployment run 'retrain/NAME'` and the schedules need; Ctrl-C stops it."""
    from evertune.home import find_home

    if not prefect_file.is_file():
        raise ConfigError(f"{prefect_file}: no such file; run this in the project's folder, or give --prefect-file")
    home = find_home(Path.cwd())
    screen = console()
    environment = _environment(port, mlflow_port)
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    with _processes(home / "up") as processes:
        screen.print(f"logs: {home / 'up'}")
        processes.start("mlflow", _mlflow(home, mlflow_port), environment)
        processes.start(
            "prefect", [*_prefect(), "server", "start", "--host", "127.0.0.1", "--port", str(port)], environment
        )
        processes.wait("prefect", f"http://127.0.0.1:{port}/api/health")
        screen.print(f"Prefect   http://127.0.0.1:{port}")
        processes.wait("mlflow", f"http://127.0.0.1:{mlflow_port}/health")
        screen.print(f"MLflow    http://127.0.0.1:{mlflow_port}")
        _deploy(prefect_file, environment)
        processes.start("worker", [*_prefect(), "worker", "start", "--pool", POOL], environment)
        with _profile(environment["PREFECT_API_URL"]):
            screen.print("worker    started, deployments registered; in another terminal, for example:")
            screen.print("            prefect deployment run 'retrain/support-intents'")
            screen.print("Ctrl-C stops all of it.")
            processes.watch()


def _interrupt() -> None:
    raise KeyboardInterrupt


def _prefect() -> list[str]:
    return [sys.executable, "-m", "prefect"]


def _mlflow(home: Path, port: int) -> list[str]:
    (home / "mlflow" / "artifacts").mkdir(parents=True, exist_ok=True)
    return [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}", "--no-serve-artifacts",
        "--default-artifact-root", (home / "mlflow" / "artifacts").as_uri(),
    ]  # fmt: skip


def _environment(port: int, mlflow_port: int) -> dict[str, str]:
    return {
        **os.environ,
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "evertune",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow_port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "EVERTUNE_PROJECT": str(Path.cwd()),
    }


def _deploy(prefect_file: Path, environment: dict[str, str]) -> None:
    for command in (
        ["work-pool", "create", POOL, "--type", "process", "--overwrite"],
        ["--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_file)],
    ):
        done = subprocess.run([*_prefect(), *command], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RegistryError(f"`prefect {' '.join(command)}` failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")


class _Processes:
    """Processes of this command, each with its log file.

    Args:
        folder: of the log files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        """Start a process of its own session: Ctrl-C reaches this command alone, which then ends the others in order."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait(self, name: str, url: str) -> None:
        """Wait until the server answers.

        Raises:
            RegistryError: it ended, or does not answer in time.
        """
        import httpx

        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            self._check(name)
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(url, timeout=2).is_success:
                    return
            time.sleep(0.3)
        raise RegistryError(f"{name} did not answer at {url} within {WAIT:.0f} s; see {self._folder / f'{name}.log'}")

    def watch(self) -> None:
        """Stay until Ctrl-C, or until one of the processes ends.

        Raises:
            RegistryError: one of them ended by itself.
        """
        while True:
            for name in self._running:
                self._check(name)
            time.sleep(1)

    def stop(self) -> None:
        """End all of them and whatever they started, the worker first."""
        import psutil

        for process in reversed(self._running.values()):
            family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            _, alive = psutil.wait_procs(family, timeout=3)
            for one in [*alive, *([psutil.Process(process.pid)] if process.poll() is None else [])]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()

    def _check(self, name: str) -> None:
        status = self._running[name].poll()
        if status is not None:
            log = self._folder / f"{name}.log"
            last = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise RegistryError(f"{name} ended with status {status}; the end of {log}:\n" + "\n".join(last))


@contextlib.contextmanager
def _processes(folder: Path) -> Iterator[_Processes]:
    processes = _Processes(folder)
    try:
        yield processes
    finally:
        ignored = threading.current_thread() is threading.main_thread()
        previous: Any = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None
        processes.stop()
        if ignored:
            signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def _profile(url: str) -> Iterator[None]:
    """While this runs, Prefect's own commands speak with this server, unless PREFECT_API_URL says otherwise."""
    from prefect.settings import PREFECT_API_URL, load_profiles, save_profiles
    from prefect.settings.profiles import Profile

    profiles = load_profiles(include_defaults=True)
    before = profiles.active_name
    profiles.profiles_by_name["evertune"] = Profile(name="evertune", settings={PREFECT_API_URL: url})
    profiles.active_name = "evertune"
    save_profiles(profiles)
    try:
        yield
    finally:
        profiles = load_profiles(include_defaults=True)
        if profiles.active_name == "evertune":
            profiles.active_name = before if before != "evertune" else "ephemeral"
        profiles.profiles_by_name.pop("evertune", None)
        save_profiles(profiles)
