"""What a run spends beside its work: what it imports, when, and what it leaves to look through at its end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evertune.cli.server import prefect_settings
from tests.helpers.cli import Project
from tests.helpers.registry import Shop, make_champion, waiting

HEAVY = ("torch", "transformers", "mlflow", "great_expectations", "prefect", "pandas", "matplotlib")
# Tells at the process's end which of the heavy libraries it imported, and what its last collection leaves alone.
TELLING = f"""
import atexit, gc, json, sys
def tell():
    found = [name for name in {HEAVY} if name in sys.modules]
    print(json.dumps([found, gc.get_freeze_count() > 0]), file=open("told.json", "w"))
atexit.register(tell)
"""


def told(project: Project) -> tuple[set[str], bool]:
    """What a run imported, and whether its end was spared the looking through."""
    done = project.run(before=TELLING, fresh=True)
    assert done.status == 0, done.err
    imported, frozen = json.loads((project.folder / "told.json").read_text())
    return set(imported), frozen


@pytest.mark.slow
def test_a_flow_whose_steps_are_done_imports_no_torch(project: Project) -> None:
    project.run(
        before="import evertune.runs.outcome as outcomes\noutcomes.record_outcome = kill"
    )  # dies when all but the report is done
    imported, frozen = told(project)
    assert "prefect" in imported
    assert not imported & {"torch", "transformers"}
    assert frozen


@pytest.mark.slow
def test_another_process_imports_great_expectations_and_nothing_new_imports_nothing_large(project: Project) -> None:
    imported, frozen = told(project)
    assert "torch" in imported and "great_expectations" not in imported
    imported, frozen = told(project)
    assert imported == set()
    assert frozen


@pytest.mark.process
@pytest.mark.parametrize("command", ["approve", "rollback"])
@pytest.mark.usefixtures("no_parity")
def test_a_move_by_hand_imports_what_mlflow_imports_and_no_more(shop: Shop, tmp_path: Path, command: str) -> None:
    for _ in range(2):
        make_champion(shop, shop.checked())
    version = ["--version", str(waiting(shop)[1])] if command == "approve" else []
    code = f"{TELLING}\nfrom evertune.cli import main\nsys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "EVERTUNE_HOME": str(shop.home.root)}
    arguments = [command, str(tmp_path / "recipe.yaml"), *version, "--reason", "why"]
    subprocess.run([sys.executable, "-c", code, *arguments], env=environment, cwd=tmp_path, check=True)
    imported, _ = json.loads((tmp_path / "told.json").read_text())
    assert set(imported) == {"mlflow", "pandas"}  # which MLflow imports itself


def test_what_the_flow_needs_is_imported_while_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.server.api.server import SubprocessASGIServer

    imported: list[bool] = []

    def start(_: SubprocessASGIServer) -> None:  # answers only once the import is done
        while "needed_by_a_flow" not in sys.modules:
            time.sleep(0.01)
        imported.append(True)

    (tmp_path / "needed_by_a_flow.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(SubprocessASGIServer, "start", start)
    prefect_settings._start_server(["needed_by_a_flow"])
    assert imported == [True]


def test_of_two_runs_one_starts_its_server_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock
    from prefect.server.api.server import SubprocessASGIServer

    monkeypatch.setattr("evertune.cli.server.prefect_profile.prefect_home", lambda: tmp_path / "prefect")
    taken: list[bool] = []

    def start(_: SubprocessASGIServer) -> None:
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(tmp_path / "prefect" / "evertune-server.lock", timeout=0).acquire()
        taken.append(True)

    monkeypatch.setattr(SubprocessASGIServer, "start", start)
    prefect_settings._start_server([])
    assert taken == [True]


def test_a_server_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.server.api.server import SubprocessASGIServer

    def start(_: SubprocessASGIServer) -> None:
        raise RuntimeError("timed out")

    monkeypatch.setattr(SubprocessASGIServer, "start", start)
    with pytest.raises(RuntimeError, match="timed out"):
        prefect_settings._start_server([])
