"""The deployments in the repository's file; and `evertune up` over a small project, cut off once and started again."""

import importlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import yaml
from prefect import Flow

from evertune.cli.server.prefect_pool import POOL
from evertune.config import load_recipe
from evertune.errors import RegistryError
from evertune.runtime.home import home_of
from tasks import step
from tests.helpers.cli import Project, ticket_rows, write_rows
from tests.helpers.paths import PYTHONPATH, ROOT
from tests.helpers.server import free_port
from tests.helpers.strangers import basic, check_that_strangers_are_refused

FILE = ROOT / "deployments" / "prefect.yaml"
DEPLOYMENTS = yaml.safe_load(FILE.read_text(encoding="utf-8"))["deployments"]
RETRAIN = [one for one in DEPLOYMENTS if one["entrypoint"] == "flows.retrain.retrain"]
PATIENCE = 300  # seconds: only how long a failing test waits
T = TypeVar("T")


@pytest.mark.parametrize("one", DEPLOYMENTS, ids=lambda one: f"{one['entrypoint']}/{one['name']}")
def test_a_deployment_names_a_recipe_a_flow_in_a_module_and_the_pool(one: dict[str, Any]) -> None:
    recipe = load_recipe(ROOT / one["parameters"]["recipe"])
    module, _, name = one["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    assert isinstance(flow, Flow)
    assert set(one["parameters"]) <= set(inspect.signature(flow.fn).parameters)
    assert one["name"] == recipe.name
    assert one["tags"] == ["evertune", recipe.objective.type]
    assert one["work_pool"]["name"] == POOL
    assert one["description"]


@pytest.mark.parametrize("one", RETRAIN, ids=lambda one: one["name"])
def test_a_recipes_schedule_and_its_deployments_are_the_same(one: dict[str, Any]) -> None:
    recipe = load_recipe(ROOT / one["parameters"]["recipe"])
    assert recipe.schedule
    [schedule] = one["schedules"]
    assert schedule.pop("active", True) == (recipe.name == "support-intents")  # whose data come with Evertune
    assert schedule == {"cron": recipe.schedule.cron, "timezone": recipe.schedule.timezone}
    assert one["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_a_scheduled_run_waits_for_the_one_at_work_and_a_persons_does_not(
    write_recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    monkeypatch.setattr(step, "SOON", 0.1)
    entered = threading.Event()

    def scheduled() -> None:
        with step.exclusive_run(recipe):
            entered.set()

    with home_of(recipe).lock("run"):
        with (
            pytest.raises(RegistryError, match="another process has held the run lock of small"),
            step.exclusive_run(recipe),
        ):
            pass
        monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "1")
        caplog.set_level("INFO", logger="evertune")
        waiting = threading.Thread(target=scheduled)
        waiting.start()
        assert not entered.wait(1)
    waiting.join(10)
    assert entered.is_set()
    assert "has held the run lock of small" in caplog.text and "this run starts after it" in caplog.text
    monkeypatch.setattr(step, "LATER", 0.1)
    with (
        home_of(recipe).lock("run"),
        pytest.raises(RegistryError, match="run lock of small"),
        step.exclusive_run(recipe),
    ):
        pass


def test_every_recipe_has_a_deployment() -> None:
    recipes = sorted(f"configs/{file.name}" for file in (ROOT / "configs").glob("*.yaml"))
    assert sorted(one["parameters"]["recipe"] for one in RETRAIN) == recipes


def write_deployment(folder: Path, *, scheduled: bool) -> None:
    """A deployment like the repository's own, every 10 seconds."""
    shipped = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    schedules = [{"interval": 10, "active": scheduled}]
    [trigger] = RETRAIN[0]["triggers"]
    drift = {
        **trigger,
        "name": "tickets are to be retrained",
        "match": {"prefect.resource.id": "evertune.model.tickets"},
    }
    own = {**RETRAIN[0], "name": "tickets", "parameters": {"recipe": "tickets.yaml"}, "schedules": schedules}
    own["triggers"] = [drift]
    tree = {"name": "project", "pull": shipped["pull"], "deployments": [own]}
    (folder / "prefect.yaml").write_text(yaml.safe_dump(tree))


class Up:
    """`evertune up` in a project, on ports of its own, and what a user does in another shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.ports = [free_port(), free_port()]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        own = {"EVERTUNE_HOME": str(self.home), "PREFECT_HOME": str(folder / "prefect"), "OMP_NUM_THREADS": "1"}
        own["PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS"] = "3"  # not 30, until it asks again
        self.environment = {**kept, **own, "PYTHONPATH": PYTHONPATH, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it and return what it printed until it was ready."""
        command = [sys.executable, "-m", "evertune", "up", "--prefect-file", "prefect.yaml"]
        ports = ["--port", str(self.ports[0]), "--mlflow-port", str(self.ports[1])]
        said = self.folder / "said.txt"
        with said.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, *ports], cwd=self.folder, env=self.environment, stdout=out, stderr=out
            )
        wait_for(lambda: "Ctrl-C stops" in said.read_text() or self.ended())
        assert not self.ended(), said.read_text() + self.logs()
        return said.read_text()

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def family(self) -> list[psutil.Process]:
        """It, its servers and worker, and whatever these started."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)

    def api(self, path: str, **body: Any) -> Any:
        import httpx

        answer = httpx.post(
            f"http://127.0.0.1:{self.ports[0]}/api{path}", json=body, headers=basic(self.key), timeout=30
        )
        return answer.raise_for_status().json()

    @property
    def key(self) -> str:
        return (self.home / "prefect-key").read_text().strip()

    def runs(self, *states: str) -> list[dict[str, Any]]:
        """Flow runs in these states, oldest first."""
        found: list[dict[str, Any]] = self.api(
            "/flow_runs/filter", flow_runs={"state": {"type": {"any_": states}}}, sort="START_TIME_ASC"
        )
        return found

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in another shell, where no variable names the servers."""
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )

    def logs(self) -> str:
        return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in (self.home / "up").glob("*.log"))


def wait_for(found: Callable[[], T]) -> T:
    """The first true value of `found`."""
    end = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)
    return value


@pytest.fixture
def up(tmp_path: Path, tiny_model: Path, model_store: Path) -> Iterator[Up]:
    shutil.copytree(model_store.with_name("empty"), tmp_path / "home")
    write_rows(tmp_path / "rows" / "a.csv", ticket_rows(150))
    Project(tmp_path, tiny_model, "").write().recipe.rename(tmp_path / "tickets.yaml")
    made = Up(tmp_path)
    yield made
    if not made.ended():
        for one in made.family():
            one.kill()


def cut_power(up: Up) -> None:
    """Kill everything at once, as a power cut does, while a run that the schedule started is at work."""
    [run] = wait_for(lambda: up.runs("RUNNING"))
    assert "auto-scheduled" in run["tags"]
    family = up.family()
    for one in family:
        one.kill()
    psutil.wait_procs(family, timeout=PATIENCE)


@pytest.mark.slow
def test_up_runs_the_schedule_shows_the_run_survives_a_power_cut_and_leaves_nothing(up: Up) -> None:
    write_deployment(up.folder, scheduled=True)
    up.start()
    cut_power(up)
    write_deployment(up.folder, scheduled=False)
    assert "marked as crashed" in up.start()  # and with that, the deployment's one place is free again
    assert up.runs("CRASHED")

    check_that_strangers_are_refused(up.ports, up.key)
    done = up.run("prefect", "deployment", "run", "retrain/tickets", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr + up.logs()
    [first, *_] = up.runs("COMPLETED")
    check_page(up, first)
    check_that_a_trigger_retrains(up)

    check_that_the_key_is_kept(up)
    family = up.family()
    assert len(family) >= 4
    assert up.stop() == 0
    assert not [one for one in family if one.is_running()]
    assert 'active = "evertune"' not in (up.folder / "prefect" / "profiles.toml").read_text()
    check_local_store(up)


def check_that_the_key_is_kept(up: Up) -> None:
    """Its owner alone can read it, and it is in two files, in no log, no database, no argument and no output."""
    kept = [up.home / "prefect-key", up.folder / "prefect" / "profiles.toml"]
    assert [file.stat().st_mode & 0o777 for file in kept] == [0o600, 0o600]
    secret = up.key.partition(":")[2].encode()
    found = [file for file in up.folder.rglob("*") if file.is_file() and secret in file.read_bytes()]
    assert sorted(found) == sorted(kept)
    assert not [process for process in up.family() if secret.decode() in " ".join(process.cmdline())]


def check_page(up: Up, flow_run: dict[str, Any]) -> None:
    """Names of run and tasks, artifacts, a log for people, and a link that leads to the run in MLflow."""
    import httpx

    assert flow_run["name"] == "tickets"
    its = {"flow_run_id": {"any_": [flow_run["id"]]}}
    steps = {"ingest", "validate", "tokenize", "finetune", "evaluate", "promote", "conclude"}
    assert {one["name"] for one in up.api("/task_runs/filter", task_runs=its)} == steps
    artifacts = {one["key"]: one for one in up.api("/artifacts/filter", artifacts=its)}
    assert set(artifacts) == {"tickets-rows", "tickets-metrics", "tickets-decision", "tickets-report", "tickets-mlflow"}
    assert "promoted" in artifacts["tickets-decision"]["data"]
    link = artifacts["tickets-mlflow"]["data"].partition("](")[2].rstrip(")")
    server = link.partition("/#/")[0]
    run_id = link.rpartition("/")[2].partition("?")[0]
    run = httpx.get(f"{server}/api/2.0/mlflow/runs/get", params={"run_id": run_id}).raise_for_status().json()
    assert run["run"]["info"]["status"] == "FINISHED"
    wait_for(lambda: [one for one in up.api("/logs/filter", logs=its) if one["message"].startswith("promote: version")])


def check_that_a_trigger_retrains(up: Up) -> None:
    """The event of `evertune monitor` becomes a run of the deployment; two that ask at once start one."""

    def started() -> list[dict[str, Any]]:
        found = up.runs("SCHEDULED", "PENDING", "RUNNING", "COMPLETED")
        return [run for run in found if (run["created_by"] or {}).get("type") == "AUTOMATION"]

    write_rows(up.folder / "rows" / "later.csv", ticket_rows(5, start=700))
    up.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{up.ports[0]}/api"
    look = up.run("evertune", "monitor", "tickets.yaml", "--json", "--set", "triggers.new_labels=5")
    assert look.returncode == 0, look.stderr
    [found] = json.loads(look.stdout)["triggers"]
    assert (found["name"], found["starts"]) == ("new_labels", True)
    told = up.run("prefect", "event", "emit", "evertune.retrain", "--resource-id", "evertune.model.tickets")
    assert told.returncode == 0, told.stderr
    del up.environment["PREFECT_API_URL"]
    wait_for(lambda: [run for run in started() if run["state_type"] == "COMPLETED"])
    assert len(started()) == 1


def check_local_store(up: Up) -> None:
    """Without the servers, the same models and decisions are there."""
    outcome = json.loads(up.run("evertune", "run", "tickets.yaml", "--json").stdout)
    assert (outcome["decision"], outcome["champion_version"]) == ("unchanged", 1)
