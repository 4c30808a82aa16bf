"""What a long history costs: small files become one, and what is kept in memory is never older than the disk."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from evertune.data.columns.chunks import make_row_reader
from evertune.data.corpus import delta_tables
from evertune.data.corpus import transactions as corpus
from evertune.registry.decisions import ledger
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking import store
from tests.helpers.crash import killed
from tests.helpers.data import current, good, make_home, make_recipe, run, write_csv
from tests.helpers.registry import Shop

pytestmark = pytest.mark.slow


def _live(folder: Path, days: range) -> None:
    for day in days:
        write_csv(folder / f"{day:03d}.csv", good(4, 4 * day))
        run(make_recipe(folder), make_home(folder))


def test_small_files_of_the_corpus_become_one_and_its_rows_and_versions_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_tables, "MANY", 4)
    home = make_home(tmp_path)
    versions = {}
    for day in range(1, 7):
        _live(tmp_path, range(day, day + 1))
        versions[day] = corpus.newest_version(home)
    assert len(DeltaTable(str(home.corpus)).file_uris()) < 4
    assert delta_tables.last_batch(home.corpus) == 6
    assert [row["text"] for row in current(home, "text")] == [text for text, _ in good(24, 4)]
    for day, version in versions.items():
        assert len(corpus.read_rows(home, version)) == 4 * day


def test_a_version_can_be_read_after_months_and_a_hundred_batches(tmp_path: Path) -> None:
    """By default its entry in the log would go, 30 days later, with the next checkpoint."""
    index = tmp_path / "corpus"

    def take(days: range) -> None:
        for day in days:
            rows = make_row_reader(pa.table({"batch": [day], "row_version": [str(day)]}))
            delta_tables.append_once(index, rows, ["batch", "row_version"], day)

    take(range(1, 4))
    third = delta_tables.get_version(index)
    take(range(4, 99))
    for entry in (index / "_delta_log").iterdir():
        os.utime(entry, (0, 0))
    take(range(99, 103))
    assert list((index / "_delta_log").glob("*.checkpoint.parquet"))
    assert delta_tables.batch_of(index, third) == 3
    assert sorted(delta_tables.read_rows(index, version=third)["batch"].to_pylist()) == [1, 2, 3]


def test_a_crash_in_the_middle_of_that_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_tables, "MANY", 3)
    _live(tmp_path, range(1, 3))
    for day, when in ((3, "before"), (4, "after")):
        with killed(delta_tables, "compact_files", when):
            _live(tmp_path, range(day, day + 1))
    _live(tmp_path, range(5, 6))
    assert [row["text"] for row in current(make_home(tmp_path), "text")] == [text for text, _ in good(20, 4)]


def test_a_table_that_another_process_or_person_changed_is_read_again(tmp_path: Path) -> None:
    _live(tmp_path, range(1, 3))
    home = make_home(tmp_path)
    assert delta_tables.last_batch(home.corpus) == 2
    held = dict(delta_tables._open_tables)
    _live(tmp_path, range(3, 4))
    delta_tables._open_tables.update(held)  # as in a process that saw two batches
    assert delta_tables.last_batch(home.corpus) == 3
    shutil.rmtree(home.model)
    assert delta_tables.last_batch(home.corpus) == 0
    (tmp_path / "001.csv").unlink()
    _live(tmp_path, range(3, 4))
    assert delta_tables.last_batch(home.corpus) == 1


def test_the_ledger_is_read_on_and_one_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    for number in range(3):
        ledger.append_event(home, "decision", version=number)
        assert [entry["version"] for entry in ledger.read_entries(home)] == list(range(number + 1))
    with home.ledger.open("a") as file:
        file.write('{"event": "torn')
    assert len(ledger.read_entries(home)) == 3
    ledger.append_event(home, "decision", version=3)
    assert [entry["version"] for entry in ledger.read_entries(home)] == [0, 1, 2, 3]
    text = home.ledger.read_text().splitlines()
    home.ledger.unlink()
    home.ledger.write_text(text[1] + "\n")
    assert [entry["version"] for entry in ledger.read_entries(home)] == [1]


def test_a_new_run_asks_mlflow_for_no_run_of_the_past(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        candidate = shop.candidate()
        tracking.Run(shop.home, candidate.run_id, Path(candidate.run_folder)).finish_run()
    requested: list[str] = []
    mlflow = type(store.open_client(shop.home))
    monkeypatch.setattr(mlflow, "get_run", lambda _self, run_id: requested.append(run_id))
    shop.candidate()
    assert not requested
