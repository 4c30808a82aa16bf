"""The parts of `evertune up`: its processes, and what it refuses before anything starts."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import psutil
import pytest
import yaml

from evertune.cli.server import deployments, processes
from evertune.errors import ConfigError, RegistryError
from tests.helpers.paths import PYTHONPATH

pytestmark = pytest.mark.process

CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
WAITS = f"{CHILD} time.sleep(600)"
DEAF = f"from signal import *; signal(SIGINT, SIG_IGN); signal(SIGTERM, SIG_IGN); {WAITS}"


def start(folder: Path, code: str) -> tuple[processes.Processes, list[psutil.Process]]:
    """A process with a child, and both of them."""
    started = processes.Processes(folder, folder / "record.json")
    started.start("sleeper", [sys.executable, "-c", code], os.environ)
    parent = psutil.Process(json.loads((folder / "record.json").read_text())["sleeper"]["pid"])
    while not parent.children():
        time.sleep(0.05)
    return started, [parent, *parent.children()]


def gone(family: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.parametrize("code", [WAITS, DEAF], ids=["obedient", "deaf"])
def test_stopping_ends_a_process_and_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.5)
    started, family = start(tmp_path, code)
    started.stop_all()
    assert gone(family)
    assert not (tmp_path / "record.json").exists()


def test_processes_that_a_killed_command_left_are_found_by_its_record(tmp_path: Path) -> None:
    _, family = start(tmp_path, WAITS)
    assert processes.end_leftovers(tmp_path / "record.json") == ["sleeper"]
    assert gone(family)
    assert processes.end_leftovers(tmp_path / "record.json") == []


def test_a_stranger_with_a_used_process_number_is_left_alone(tmp_path: Path) -> None:
    started, family = start(tmp_path, WAITS)
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"sleeper": {"pid": family[0].pid, "born": family[0].create_time() - 60}}))
    assert processes.end_leftovers(record) == []
    assert all(one.is_running() for one in family)
    started.stop_all()


def test_a_process_that_ends_by_itself_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    started = processes.Processes(tmp_path, tmp_path / "record.json")
    started.start("server", [sys.executable, "-c", "import sys; print('the port is taken'); sys.exit(3)"], os.environ)
    with pytest.raises(RegistryError, match=r"(?s)server ended with status 3.*the port is taken"):
        started.wait_ready("server", "http://127.0.0.1:9/health")
    started.stop_all()


def up(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`evertune up` in a folder with a prefect.yaml, for cases in which it ends by itself."""
    (folder / "prefect.yaml").write_text("deployments: [{name: a, entrypoint: flows.retrain.retrain}]\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    command = [sys.executable, "-m", "evertune", "up", "--prefect-file", "prefect.yaml", *arguments]
    own = {"PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": PYTHONPATH}
    return subprocess.run(command, cwd=folder, env={**kept, **own, **environment}, capture_output=True, text=True)


@pytest.mark.process
def test_ports_in_use_are_all_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [str(server.getsockname()[1]) for server in (one, other)]
        done = up(tmp_path, "--port", ports[0], "--mlflow-port", ports[1])
    assert done.returncode == 2, done.stderr
    assert f"--port {ports[0]}: address already in use" in done.stderr
    assert f"--mlflow-port {ports[1]}: address already in use" in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.process
def test_a_second_up_says_that_one_runs(tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    with filelock.FileLock(tmp_path / "prefect" / "evertune-up.lock"):
        done = up(tmp_path)
    assert done.returncode == 5
    assert "already runs" in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.process
@pytest.mark.parametrize(
    ("variable", "url"), [("PREFECT_API_URL", "http://127.0.0.1:9/api"), ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")]
)
def test_a_named_server_that_does_not_answer_is_told_and_none_is_started(
    tmp_path: Path, variable: str, url: str
) -> None:
    done = up(tmp_path, **{variable: url})
    assert done.returncode == 5, done.stderr
    assert "127.0.0.1:9 does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.process
def test_a_file_without_deployments_and_no_file_are_config_errors(tmp_path: Path) -> None:
    assert up(tmp_path, "--prefect-file", "absent.yaml").returncode == 2
    (tmp_path / "empty.yaml").write_text("name: empty\n")
    done = up(tmp_path, "--prefect-file", "empty.yaml")
    assert done.returncode == 2
    assert "no entry under `deployments`" in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", "this file holds list, not a mapping"),
        ("deployments: {a: b}", "no entry under `deployments`"),
        ("deployments: [x]", "deployments.0.name: missing"),
        ("deployments: [{name: a}]", "deployments.0.entrypoint: missing; add it"),
        ("deployments: [{name: a, entrypoint: null}]", "deployments.0.entrypoint: missing; add it"),
        ("deployments: [{entrypoint: flows.score.score}]", "deployments.0.name: missing; add it"),
        ("deployments: [{name: a, entrypoint: f.g, parameters: [1]}]", "deployments.0.parameters: write it as"),
        ("deployments: [{name: a, entrypoint: f.g, schedules: [1]}]", "deployments.0.schedules: write it as"),
        (
            "deployments: [{name: a, entrypoint: flows.retrain.retrain, parameters: {recipe: x.yaml}}]",
            "x.yaml: no such",
        ),
    ],
)
def test_a_file_that_prefect_cannot_deploy_is_a_config_error(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        deployments.list_deployments(tmp_path / "mine.yaml")
    assert words in str(caught.value)


NIGHTLY = {"cron": "0 3 * * *"}


@pytest.mark.parametrize(
    ("recipe", "deployment", "same"),
    [
        (NIGHTLY, [{"cron": "0 3 * * *"}], True),
        (NIGHTLY, [{"cron": "0 3 * * *", "timezone": "UTC", "active": False}], True),
        (NIGHTLY, [{"cron": "0 4 * * *"}], False),
        (NIGHTLY, [{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}], False),
        (NIGHTLY, [{"interval": 60}], False),
        (NIGHTLY, None, False),
        (NIGHTLY, [{"cron": "0 3 * * *"}, {"cron": "0 4 * * *"}], False),
        (None, [{"cron": "0 4 * * *"}], True),
        (None, None, True),
    ],
)
def test_a_recipes_schedule_is_that_of_its_deployment(
    write_recipe: Callable[..., Path], tmp_path: Path, recipe: Any, deployment: Any, same: bool
) -> None:
    path = write_recipe(tmp_path, schedule=recipe)
    entry = {
        "name": "small",
        "entrypoint": "flows.retrain.retrain",
        "parameters": {"recipe": str(path)},
        "schedules": deployment,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"deployments": [entry]}))
    if same:
        assert deployments.list_deployments(tmp_path / "mine.yaml") == ["retrain/small"]
        return
    with pytest.raises(
        ConfigError, match=r"small: the schedule is .* here and '0 3 \* \* \*' in UTC in .*; make them the same"
    ):
        deployments.list_deployments(tmp_path / "mine.yaml")


def test_a_flow_is_named_by_the_end_of_its_entry_point(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("deployments: [{name: a, entrypoint: 'flows/score.py:score'}]")
    assert deployments.list_deployments(tmp_path / "mine.yaml") == ["score/a"]


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--port", "99999"], ["--mlflow-port", "0"]])
def test_a_port_that_is_none_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    done = up(tmp_path, *arguments)
    assert done.returncode == 2
    assert "is not in the range 1<=x<=65535" in done.stderr


@pytest.mark.process
def test_two_servers_on_one_port_are_refused(tmp_path: Path) -> None:
    done = up(tmp_path, "--port", "43917", "--mlflow-port", "43917")
    assert done.returncode == 2
    assert "--port and --mlflow-port are both 43917" in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.process
def test_a_home_that_cannot_be_is_told_before_anything_starts(tmp_path: Path) -> None:
    done = up(tmp_path, "--port", "43917", "--mlflow-port", "43918", EVERTUNE_HOME="/proc/x")
    assert done.returncode == 2, done.stderr
    assert "/proc/x: Evertune cannot write there" in done.stderr
