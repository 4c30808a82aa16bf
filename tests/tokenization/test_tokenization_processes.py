"""Many rows are encoded in a process a core: the same files, and no process outlives the one that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evertune.errors import DataError
from evertune.runtime.home import Home
from evertune.tokenization import tokenize as tokenization
from tests.helpers.model import recipe, table, text_rows, tokens_of
from tests.helpers.paths import PYTHONPATH

STARTS = """
import sys
from pathlib import Path
from evertune.tokenization import tokenize as tokenization
from tests.helpers.model import recipe, table, text_rows, tokens_of
from evertune.runtime.home import Home
from tests.tokenization.test_tokenization_processes import three_parts, waits
tokenization.MANY = 0
tokenization._start_worker = waits
tokens_of(recipe(Path(sys.argv[1])), Home(Path(sys.argv[2]), "tiny"), three_parts())
"""


def three_parts() -> Any:
    return table([{**row, "part": number % 3} for number, row in enumerate(text_rows(30))])


def dies(_: Any) -> None:
    os._exit(1)


def waits(one: Any) -> None:
    """As `_start_worker`; then write the process id, and stay busy."""
    begin(one)
    with Path("pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(600)


begin = tokenization._start_worker


@pytest.mark.slow
def test_processes_write_the_same_files(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tokens_of(recipe(tiny_model), Home(tmp_path / "here", "tiny"), three_parts())
    monkeypatch.setattr(tokenization, "MANY", 0)
    monkeypatch.setattr(tokenization, "_write_file", None)  # nothing is written in this process
    there = tokens_of(recipe(tiny_model), Home(tmp_path / "there", "tiny"), three_parts())
    assert [Path(file).read_bytes() for file in there.files] == [Path(file).read_bytes() for file in here.files]
    assert (len(there.files), there.tokens, there.fingerprint) == (3, here.tokens, here.fingerprint)


def test_a_process_that_dies_is_said(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenization, "MANY", 0)
    monkeypatch.setattr(tokenization, "_start_worker", dies)
    with pytest.raises(DataError, match=r"was killed.*run again"):
        tokens_of(recipe(tiny_model), Home(tmp_path / "home", "tiny"), three_parts())


@pytest.mark.process
def test_no_process_outlives_the_one_that_started_it(tiny_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS, str(tiny_model), str(tmp_path / "home")]
    started = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": PYTHONPATH})
    pids = tmp_path / "pids"
    while not (pids.exists() and pids.read_text().endswith("\n")):
        assert started.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)
    started.send_signal(signal.SIGKILL)
    started.wait()
    for pid in map(int, pids.read_text().split()):
        for _ in range(100):
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"process {pid} is left")
