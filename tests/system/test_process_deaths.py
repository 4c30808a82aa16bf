"""What the death of one process of a training leaves: an error that says what to do, no orphan, a checkpoint."""

import errno
import logging
import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from evertune.cli.errors import explain_error
from evertune.errors import RegistryError, TrainingError
from evertune.registry.tracking import store
from evertune.training.distributed import messages as reports
from evertune.training.trainer import TokenTrainer
from tests.helpers.cli import Project
from tests.helpers.model import difference, history, train, write_broken_model, write_steady_model
from tests.helpers.process import ROWS, in_processes, killing, launcher, newest, training_elsewhere, until, workers


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_steady_model(tmp_path_factory.mktemp("models") / "steady")


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_any_number_of_them_goes_on(
    steady: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = {"epochs": 20}  # 140 steps
    place = tmp_path / "killed"
    message = (
        r"process 1 of the training was killed by SIGKILL; .* lower training.processes, .* run again: training resumes"
    )
    with pytest.raises(TrainingError, match=message), killing(place, lambda: workers(os.getpid())[1]):
        train(in_processes(steady, 2, **long), place, ROWS)
    assert workers(os.getpid()) == []
    with (
        pytest.raises(TrainingError, match="the launcher of the training's processes was killed by SIGKILL"),
        killing(place, lambda: launcher(os.getpid())),
    ):
        train(in_processes(steady, 3, **long), place, ROWS)
    assert workers(os.getpid()) == []
    caplog.set_level(logging.INFO)
    resumed = train(in_processes(steady, 1, **long), place, ROWS)
    assert "training resumes from step" in caplog.text
    whole = train(in_processes(steady, 1, **long), tmp_path / "whole", ROWS)
    assert resumed.steps == whole.steps == 140
    assert difference(resumed, whole) < 1e-2
    # Killed between a checkpoint and its seal, steps are repeated in other processes, with other last digits: see
    # `tracking.history`, which takes the last.
    told, wanted = ({(one["step"], *sorted(one)) for one in history(run)} for run in (place, tmp_path / "whole"))
    assert told == wanted


@pytest.mark.slow
def test_gone_on_with_as_many_processes_each_draws_what_it_would_have(tiny_model: Path, tmp_path: Path) -> None:
    one = in_processes(tiny_model, 2, epochs=12, mask_tokens=0.1)
    with pytest.raises(TrainingError), killing(tmp_path / "killed", lambda: workers(os.getpid())[1]):
        train(one, tmp_path / "killed", ROWS)
    resumed, whole = (train(one, tmp_path / name, ROWS) for name in ("killed", "whole"))
    assert difference(resumed, whole) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_when_the_step_ends_its_processes_end_and_the_next_run_goes_on(
    steady: Path, tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training_elsewhere(steady, tmp_path) as parent:
        until(lambda: newest(tmp_path))
        family = [*workers(parent.pid), launcher(parent.pid)]
        parent.send_signal(number)
        said = parent.communicate()[1]
        _gone, alive = psutil.wait_procs(family, 20)
    assert len(family) == 3 and alive == []
    assert said.rstrip().endswith("KeyboardInterrupt") or number == signal.SIGKILL
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(TokenTrainer, "training_step", lambda *_: 1 / 0)  # that it begins is enough
    with pytest.raises(ZeroDivisionError):
        train(in_processes(steady, 1, epochs=400), tmp_path, ROWS)
    assert "training resumes from step" in caplog.text


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_said_as_by_one_process(tmp_path: Path) -> None:
    model = write_broken_model(tmp_path / "model")
    with pytest.raises(TrainingError, match=r"^the loss is nan at step 1; lower training.learning_rate \(now 0.005\)$"):
        train(in_processes(model, 2), tmp_path / "home", ROWS)


@pytest.mark.slow
def test_a_full_disk_is_said_as_by_one_process(steady: Path, tmp_path: Path, small_disk: None) -> None:
    with pytest.raises(TrainingError, match=r"^nothing can be written to .*/run: .*; free some space and run again"):
        train(in_processes(steady, 2), tmp_path, ROWS)
    assert not (tmp_path / "run" / "bundle").exists() and not (tmp_path / "run" / "candidate.json").exists()


KILL = """
import contextlib, psutil
from evertune.training.distributed import messages as reports
listen = reports.relay_messages

def killing(lines, log):
    def kill(*metrics):  # they come when a checkpoint is whole
        log(*metrics)
        for one in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.environ().get("RANK") == "1" and one.kill()
    return listen(lines, kill)

reports.relay_messages = killing
"""


@pytest.mark.slow
def test_the_command_says_which_process_died_and_goes_on_in_the_same_run(project: Project) -> None:
    changes = ["--set", "training.processes=2"]
    died = project.run(*changes, before=KILL)
    assert (died.status, died.out) == (4, ""), died.err
    assert "process 1 of the training was killed by SIGKILL" in died.err and "Traceback" not in died.err
    done = project.run(*changes)
    assert done.status == 0, done.err
    assert "training resumes from step" in done.err and len(re.findall(r"step 30 of", done.err)) == 1
    mlflow = store.open_client(project.home)
    runs = mlflow.search_runs([store.ensure_experiment(project.home, "tickets")])
    assert [(one.info.run_id, one.info.status) for one in runs] == [(done.json["run_id"], "FINISHED")]
    steps = [one.step for one in mlflow.get_metric_history(done.json["run_id"], "loss")]
    assert steps == sorted(set(steps)) and steps[-1] == done.json["training"]["steps"]


def failed(error: Exception, rank: int = 0) -> dict[str, Any]:
    return reports.describe_error(error, rank)


def test_the_error_that_came_first_is_raised(tmp_path: Path) -> None:
    lost = failed(RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc] Connection closed by peer"))
    log = tmp_path / "log.txt"
    log.write_text("some\nlast words\n")

    def of(*failures: dict[str, Any], ended: Any = (), status: int = 1) -> str:
        found = reports.find_cause(reports.Reports(None, list(failures), list(ended)), status, log)
        return f"{type(found).__name__}: {found}"

    memory = failed(TrainingError("out of memory with training.tokens_per_batch 128; halve it"), 1)
    assert of(lost, memory, ended=[(0, 1), (1, 1)]) == f"TrainingError: {memory['text']}"
    assert "process 1 of the training was killed by SIGKILL" in of(lost, ended=[(0, -15), (1, -9)])
    assert "process 1 of the training was killed by SIGTERM" in of(lost, ended=[(0, 1), (1, -15), (2, -15)])
    assert "process 0 of the training: KeyError" in of(lost, failed(KeyError("x"), 0), ended=[(0, 1), (1, -15)])
    assert of(lost, failed(KeyError("x"), 2)).startswith("RuntimeError: process 2 of the training: KeyError: 'x'; see ")
    assert "process 0 of the training lost its connection to another process; " in of(lost, ended=[(0, 1)])
    assert "was killed by SIGSEGV" in of(status=-signal.SIGSEGV)
    assert "ended with status 1" in of() and "last words" in of()
    assert of(failed(RegistryError("locked"))) == "RegistryError: locked"


def test_a_full_disk_keeps_its_exit_status(tmp_path: Path) -> None:
    full = TrainingError("nothing can be written to /x; free some space")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    made = reports.find_cause(reports.Reports(None, [failed(full)]), 1, tmp_path)
    assert explain_error(made) == explain_error(full)
