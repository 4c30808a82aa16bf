"""Work in a process of its own: the same results and errors, and no process left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from evertune.data import admission
from evertune.data.contract.judge import BatchStoppedError
from evertune.data.quarantine import release as quarantine
from evertune.errors import ConfigError
from evertune.runtime import helper_process as beside
from evertune.runtime.context import RunContext
from tests.helpers import helper_process_jobs as beside_jobs
from tests.helpers.data import REFUSED, TOLERANT, current, good, ingest, write_csv
from tests.helpers.data import make_home as home
from tests.helpers.data import make_recipe as recipe
from tests.helpers.paths import PYTHONPATH

pytestmark = pytest.mark.process
SECONDS = 60.0


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that waits, which finds the tests' modules; none is left in the end."""
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    beside.start_helper("colorsys")
    yield
    beside.end_processes()
    assert not below(os.getpid())


def below(process: int) -> list[psutil.Process]:
    """The waiting or working processes that a process has started."""
    found = []
    for one in psutil.Process(process).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "evertune.runtime.helper_process" in one.cmdline():
                found.append(one)
    return found


def until(condition) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_work_is_done_where_the_imports_are_done_and_once_here_without_such_a_process() -> None:
    there, imported = beside.run_in_helper(partial(beside_jobs.where, "colorsys", "wave"), ["wave"])
    assert there != os.getpid() and imported == [True, False]
    assert "wave" in sys.modules
    assert beside.run_in_helper(partial(beside_jobs.where))[0] == os.getpid()


def test_the_process_goes_on_when_it_has_answered_however_large_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe holds 64 KiB: an answer that nobody reads would hold the process up until the imports are done."""
    (tmp_path / "waits.py").write_text(
        "import pathlib, time\n"
        f"path, end = pathlib.Path({str(tmp_path / 'done')!r}), time.monotonic() + {SECONDS}\n"
        "while not path.exists(): assert time.monotonic() < end\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    after = partial(beside_jobs.touch, tmp_path / "done")
    assert beside.run_in_helper(partial(beside_jobs.size, 10**7), ["waits"], after) == b"x" * 10**7


def test_errors_come_as_they_are() -> None:
    with pytest.raises(ConfigError) as found:
        beside.run_in_helper(partial(beside_jobs.wrong, "config"))
    assert found.value.problems == ["data.sources: none", "name: missing"]
    assert "helper_process_jobs.py" in found.value.__notes__[0], "where it came from, for --debug"


def test_an_error_that_cannot_travel_is_told() -> None:
    with pytest.raises(RuntimeError, match="OwnError: 1 and 2"):
        beside.run_in_helper(partial(beside_jobs.wrong, "own"))


def test_work_is_done_here_when_the_process_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    assert beside.run_in_helper(partial(beside_jobs.killed_but_in, os.getpid())) == os.getpid()
    assert "ended with status -9" in caplog.text


def test_a_process_that_died_while_it_waited_is_done_without() -> None:
    (waiting,) = below(os.getpid())
    waiting.kill()
    until(lambda: waiting.status() == psutil.STATUS_ZOMBIE)
    assert beside.run_in_helper(partial(beside_jobs.where))[0] == os.getpid()


def test_an_interruption_ends_the_work(tmp_path: Path) -> None:
    def interrupt() -> None:
        until((tmp_path / "at work").exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        beside.run_in_helper(partial(beside_jobs.endless, tmp_path / "at work"))
    thread.join()
    assert not below(os.getpid())


PROGRAM = """
import sys
from functools import partial
from pathlib import Path
from tests.helpers import helper_process_jobs as beside_jobs
from evertune.runtime import helper_process as beside
beside.start_helper()
print("ready", flush=True)
if len(sys.argv) > 1:
    beside.run_in_helper(partial(beside_jobs.endless, Path(sys.argv[1])))
sys.stdin.read()
"""


@pytest.mark.parametrize("working", [False, True])
def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path, working: bool) -> None:
    given = [str(tmp_path / "at work")] if working else []
    command = [sys.executable, "-c", PROGRAM, *given]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None and starter.stdout.readline()
        if working:
            until((tmp_path / "at work").exists)
        (child,) = below(starter.pid)
        starter.kill()
    until(lambda: not child.is_running())


@pytest.mark.parametrize("prepared", [False, True])
def test_a_batch_is_judged_alike_in_another_process(tmp_path: Path, prepared: bool) -> None:
    write_csv(tmp_path / "rows.csv", good(40) + REFUSED)
    one = recipe(tmp_path, **TOLERANT)
    place = home(tmp_path)
    batch = ingest(one, place)
    if not prepared:
        beside.end_processes()
    snapshot, verdicts = admission.admit_batch(batch, RunContext(one, place), place.data_docs / "000001")
    assert verdicts is not None and verdicts.rows == snapshot.accepted == 40 and len(current(place)) == 40
    assert len(verdicts.refused) == len(REFUSED)
    assert (place.data_docs / "000001" / "index.html").exists()
    assert not list(place.batches.glob(".*"))


@pytest.mark.parametrize("prepared", [False, True])
def test_a_batch_that_is_stopped_in_another_process_loses_nothing(tmp_path: Path, prepared: bool) -> None:
    write_csv(tmp_path / "rows.csv", good(4) + REFUSED)
    one = recipe(tmp_path)
    place = home(tmp_path)
    batch = ingest(one, place)
    if not prepared:
        beside.end_processes()
    with pytest.raises(BatchStoppedError, match="4 of 8 rows"):
        admission.admit_batch(batch, RunContext(one, place))
    assert len(quarantine.list_refused(place)) == 4
    assert not list(place.batches.glob(".*"))
