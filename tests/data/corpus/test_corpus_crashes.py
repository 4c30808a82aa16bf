"""Killed at any moment, or stopped by the contract: nothing is lost, nothing comes in twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from evertune.data.contract.judge import BatchStoppedError
from evertune.data.corpus import delta_tables, staging, state
from evertune.data.corpus import label_counts as labels
from evertune.data.corpus import parquet_chunks as chunk_files
from evertune.data.corpus import transactions as corpus
from evertune.data.quarantine import release as quarantine
from evertune.errors import DataError
from evertune.runtime.files import STALE_SECONDS, read_json
from evertune.runtime.home import Home
from tests.helpers.crash import killed
from tests.helpers.data import TOLERANT, good, ingest, make_home, make_recipe, run, write_csv
from tests.helpers.paths import PYTHONPATH

BAD = [("", "card"), ("caf\u00c3\u00a9 was shut", "refund")]
PUBLISH = chunk_files.ChunkFile, "publish_as"
POINTS = [
    (*PUBLISH, 1),  # the staged file
    (*PUBLISH, 2),  # the log: splits,
    (*PUBLISH, 3),  # accepted rows,
    (*PUBLISH, 4),  # refused rows
    (*PUBLISH, 5),  # a file in the corpus' folder that the table does not know yet
    (*PUBLISH, 6),  # and one in the quarantine's
    (staging, "stage_batch", 1),
    (staging, "write_log", 1),
    (delta_tables, "append_once", 1),  # the corpus
    (delta_tables, "append_once", 2),  # the quarantine
    (labels, "write_json", 1),  # labels.json
    (labels, "write_json", 2),  # their counts
    (state, "write_json", 1),  # state.json: the batch
    (state, "write_json", 2),  # state.json: the sources
    (staging, "forget_staged", 1),
    (staging, "forget_stopped", 1),
    (staging, "forget_log", 1),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "name", "call"), POINTS, ids=[f"{name}-{call}" for _, name, call in POINTS])
def test_a_crash_at_any_point_loses_and_doubles_nothing(
    tmp_path: Path, owner: Any, name: str, call: int, when: str
) -> None:
    write_csv(tmp_path / "a.csv", [*good(20), *BAD])
    recipe = make_recipe(tmp_path, **TOLERANT)
    home = make_home(tmp_path)
    with killed(owner, name, when, call):
        run(recipe, home)
    run(recipe, home)
    _check_complete(home)


def _check_complete(home: Home) -> None:
    texts = [row["text"] for row in delta_tables.read_rows(home.corpus, ["text"]).to_pylist()]
    refused = delta_tables.read_rows(home.quarantine, ["source_row"])["source_row"].to_pylist()
    assert sorted(texts) == sorted(text for text, _ in good(20))
    assert sorted(refused) == [20, 21]
    assert corpus.known_labels(home) == ("card", "refund")
    assert set(read_json(home.state)["sources"]) == {"a.csv"}
    assert not list(home.batches.iterdir())


KILL = """
import os, signal, sys
from pathlib import Path
from tests.helpers.data import make_home, run
from evertune.data.corpus import delta_tables
from evertune.config import load_recipe
folder, append = Path({folder!r}), delta_tables.append_once
def killed(path, *rest):
    if path.name == "quarantine":
        os.kill(os.getpid(), signal.SIGKILL)
    append(path, *rest)
delta_tables.append_once = killed
run(load_recipe(folder / "recipe.yaml"), make_home(folder))
"""


@pytest.mark.process
def test_kill_9_between_the_two_commits(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [*good(20), *BAD])
    recipe = make_recipe(tmp_path, **TOLERANT)
    home = make_home(tmp_path)
    script = KILL.format(folder=str(tmp_path))
    died = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": PYTHONPATH}, check=False)
    assert died.returncode == -signal.SIGKILL
    assert (delta_tables.last_batch(home.corpus), delta_tables.last_batch(home.quarantine)) == (1, 0)
    # A looser contract in the meantime changes nothing: the verdicts are in the log.
    run(make_recipe(tmp_path, contract={"tolerance": 0.5, "text": {"min_length": 0}}), home)
    _check_complete(home)
    assert run(recipe, home).rows == corpus.take_snapshot(home).rows


def test_a_stopped_batch_takes_nothing_in_and_is_judged_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [*good(20), *BAD])
    home = make_home(tmp_path)
    for _night in range(2):
        with pytest.raises(BatchStoppedError, match="tolerance"):
            run(make_recipe(tmp_path), home)
        assert delta_tables.last_batch(home.corpus) == 0
        assert [row["status"] for row in quarantine.list_refused(home).to_pylist()] == ["stopped", "stopped"]
    assert run(make_recipe(tmp_path, **TOLERANT), home).refused == 2
    _check_complete(home)
    assert [row["status"] for row in quarantine.list_refused(home).to_pylist()] == ["refused", "refused"]


def test_refused_rows_of_a_stopped_batch_outlive_the_file_that_was_mended(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [*good(20), *BAD])
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    with pytest.raises(BatchStoppedError):
        run(recipe, home)
    write_csv(tmp_path / "a.csv", [*good(20), ("", "refund"), ("", "")])
    with pytest.raises(BatchStoppedError):
        run(recipe, home)
    write_csv(tmp_path / "a.csv", good(22))
    snapshot = run(recipe, home)
    assert (snapshot.accepted, snapshot.refused, snapshot.reasons) == (22, 0, {})
    stored_rows = quarantine.list_refused(home).to_pylist()
    assert sorted((row["text"] or "", row["label"] or "") for row in stored_rows) == sorted(
        [*BAD, ("", "refund"), ("", "")]
    )


def test_rows_of_a_stopped_batch_come_in_when_its_other_files_are_gone(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    bad = write_csv(tmp_path / "b.csv", [("", "card")] * 5)
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    with pytest.raises(BatchStoppedError):
        run(recipe, home)
    bad.unlink()
    assert run(recipe, home).accepted == 20
    assert len(quarantine.list_refused(home)) == 5


def test_a_file_that_a_killed_process_left_half_written_goes_with_time(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    home.batches.mkdir(parents=True)
    old, young = (home.batches / f".{name}.parquet" for name in ("old", "young"))
    for path, age in ((old, 2 * STALE_SECONDS), (young, 0)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age, time.time() - age))
    write_csv(tmp_path / "a.csv", good(20))
    run(recipe, home)
    assert not old.exists()  # its process has been dead for a day
    assert young.exists()  # another process may be writing it


def test_a_file_that_the_table_never_knew_goes_when_its_batch_is_written_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    with killed(chunk_files.ChunkFile, "publish_as", "after", 5):  # in the corpus' folder
        run(recipe, home)
    assert len(list(home.corpus.glob("*.parquet"))) == 1
    run(recipe, home)
    assert len(list(home.corpus.glob("*.parquet"))) == 1
    assert len(delta_tables.read_rows(home.corpus)) == 20


def test_a_corpus_with_signatures_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    run(recipe, home)
    rows = delta_tables.read_rows(home.corpus).drop_columns("signature")
    carries = CommitProperties(app_transactions=[Transaction(delta_tables.APPLICATION, 1)])
    write_deltalake(home.corpus, rows, mode="overwrite", schema_mode="overwrite", commit_properties=carries)
    write_csv(tmp_path / "b.csv", good(5, 20))
    with pytest.raises(DataError, match="made by an older Evertune"):
        run(recipe, home)


def test_parts_of_a_log_that_a_kill_left_behind_go_with_the_next_reading(tmp_path: Path) -> None:
    """They hold texts, which nobody would look for there."""
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    run(recipe, home)
    for name in ("rows", "splits"):
        (home.batches / f"judged-{name}.parquet").write_bytes(b"of a log whose head is gone")
    ingest(recipe, home)
    assert list(home.batches.glob("*.parquet")) == []
