"""A label that is corrected back counts again where its own source says so, once; an old file undoes nothing."""

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from evertune.config import Recipe, load_recipe
from evertune.data.contract.judge import BatchStoppedError
from evertune.data.corpus import delta_tables, staging
from evertune.data.corpus import transactions as corpus
from evertune.data.quarantine import release as quarantine
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from tests.helpers.data import current, good, ingest, make_home, make_recipe, run, write_csv
from tests.helpers.paths import ROOT

ROWS = [(f"k{number}", *row) for number, row in enumerate(good(20))]
HEADER = ("id", "text", "label")


def with_id(folder: Path, **sections: Any) -> Recipe:
    columns = {"id": "id", **sections.pop("columns", {})}
    return make_recipe(folder, data={"sources": [{"path": "*.csv"}], "columns": columns}, **sections)


def write(folder: Path, label: str, name: str = "a.csv", more: int = 0) -> None:
    """The 20 rows, k3 with this label, and some that nobody has seen."""
    rows = [(key, text, label if key == "k3" else own) for key, text, own in ROWS]
    fresh = [(f"m{number}", *row) for number, row in enumerate(good(more, start=500))]
    write_csv(folder / name, [*rows, *fresh], HEADER)


def label_of(home: Home, key: str = "k3") -> list[str]:
    return [row["label"] for row in current(home) if row["id"] == key]


@pytest.fixture
def changed(tmp_path: Path) -> tuple[Recipe, Home]:
    """A corpus in which k3 went from refund to card."""
    recipe = with_id(tmp_path)
    home = make_home(tmp_path)
    for label in ("refund", "card"):
        write(tmp_path, label)
        run(recipe, home)
    assert label_of(home) == ["card"]
    return recipe, home


def test_a_label_corrected_back_counts_each_time_and_once(changed: tuple[Recipe, Home], tmp_path: Path) -> None:
    recipe, home = changed
    for label in ("refund", "card", "refund"):
        write(tmp_path, label)
        assert run(recipe, home).accepted == 1
        assert label_of(home) == [label]
        write(tmp_path, label)
        assert ingest(recipe, home).rows == 0
    write(tmp_path, "refund", more=5)  # the file is read again: k3 is what it is
    assert run(recipe, home).accepted == 5
    versions = delta_tables.read_rows(home.corpus, ["row_version", "row_key"]).to_pylist()
    assert len({row["row_version"] for row in versions}) == len(versions)
    assert len([row for row in versions if row["row_key"] == "k3"]) == 5


def test_it_keeps_its_split(changed: tuple[Recipe, Home], tmp_path: Path) -> None:
    recipe, home = changed
    before = {row["id"]: row["split"] for row in current(home)}
    write(tmp_path, "refund")
    run(recipe, home)
    assert {row["id"]: row["split"] for row in current(home)} == before


def test_an_old_file_undoes_no_correction_and_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = with_id(tmp_path)
    home = make_home(tmp_path)
    write(tmp_path, "refund")
    run(recipe, home)
    write_csv(tmp_path / "b.csv", [("k3", ROWS[3][1], "card")], HEADER)
    run(recipe, home)
    write(tmp_path, "refund", more=5)
    with caplog.at_level(logging.WARNING):
        assert run(recipe, home).accepted == 5
    assert label_of(home) == ["card"]
    assert len(caplog.records) == 1
    assert caplog.text.count("1 rows hold older content that another source has corrected") == 1
    assert "newer timestamp" in caplog.text


def test_a_file_that_holds_its_history_brings_nothing_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = with_id(tmp_path, columns={"timestamp": "at"})
    home = make_home(tmp_path)
    rows = [("k", "2026-01-01", "the old text", "card"), ("k", "2026-02-01", "the new text", "card")]
    rows += [(key, "2026-01-01", text, label) for key, text, label in ROWS]
    for count in (20, 22):
        write_csv(tmp_path / "a.csv", rows[:count], ("id", "at", "text", "label"))
        with caplog.at_level(logging.WARNING):
            run(recipe, home)
    assert [row["text"] for row in current(home) if row["id"] == "k"] == ["the new text"]
    assert len(delta_tables.read_rows(home.corpus, ["id"])) == 22
    assert not [record for record in caplog.records if record.name == "evertune.data.corpus.reverted_rows"]


def test_a_delta_table_at_a_later_version_is_the_same_source(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, data={"sources": [{"delta": "table"}], "columns": {"id": "id"}})
    home = make_home(tmp_path)
    for label in ("refund", "card", "refund"):
        rows = [{"id": key, "text": text, "label": label if key == "k3" else own} for key, text, own in ROWS]
        write_deltalake(str(tmp_path / "table"), pa.Table.from_pylist(rows), mode="overwrite")
        run(recipe, home)
        assert label_of(home) == [label]


def test_a_version_that_is_refused_on_its_return_is_not_judged_every_night(
    changed: tuple[Recipe, Home], tmp_path: Path
) -> None:
    _, home = changed
    strict = with_id(tmp_path, contract={"label": {"values": ["card"]}, "tolerance": 1.0})
    write(tmp_path, "refund")
    assert run(strict, home).refused == 1
    write(tmp_path, "refund", more=6)
    assert run(strict, home).refused == 3  # of the six that are new
    assert label_of(home) == ["card"]


def test_a_return_in_a_stopped_batch_is_judged_again(changed: tuple[Recipe, Home], tmp_path: Path) -> None:
    recipe, home = changed
    strict = with_id(tmp_path, contract={"label": {"values": ["card"]}})
    write(tmp_path, "refund")
    with pytest.raises(BatchStoppedError):
        run(strict, home)
    assert run(recipe, home).accepted == 1
    assert label_of(home) == ["refund"]
    assert len(quarantine.list_refused(home)) == 0


def test_a_crash_between_the_two_commits_ingests_a_return_once(
    changed: tuple[Recipe, Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, home = changed
    write(tmp_path, "refund")
    with monkeypatch.context() as patch:
        patch.setattr(staging, "forget_staged", None)  # fails when the commit has reached both tables
        with pytest.raises(TypeError):
            run(recipe, home)
    run(recipe, home)
    write(tmp_path, "refund", more=1)
    assert run(recipe, home).accepted == 1
    assert label_of(home) == ["refund"]
    assert len(delta_tables.read_rows(home.corpus, ["id"])) == 23


def test_a_refused_row_can_be_mended_into_an_older_version(changed: tuple[Recipe, Home], tmp_path: Path) -> None:
    _, home = changed
    loose = with_id(tmp_path, contract={"tolerance": 1.0})
    write(tmp_path, "crd")
    assert run(loose, home).refused == 1
    version = quarantine.list_refused(home)["row_version"]
    done = quarantine.release_rows(RunContext(loose, home), pa.table({"row_version": version, "label": ["refund"]}))
    assert (done.released, done.known) == (1, 0)
    assert label_of(home) == ["refund"]
    assert corpus.last_number(home) == 4


def test_a_source_with_only_new_rows_is_ingested_although_keys_have_changed(
    changed: tuple[Recipe, Home], tmp_path: Path
) -> None:
    """The rows that were read are searched for changed keys; none is found and all are ingested."""
    recipe, home = changed
    write_csv(tmp_path / "b.csv", [(f"m{number}", *row) for number, row in enumerate(good(5, start=500))], HEADER)
    assert run(recipe, home).accepted == 5
    assert len(current(home)) == 25 and label_of(home) == ["card"]


def test_the_ninth_week_of_the_sample_corpus_comes_after_the_eighth(tmp_path: Path) -> None:
    """The README's second act, as far as its rows go."""
    path = ROOT / "configs" / "support_intents.yaml"
    home = make_home(tmp_path)
    first = run(load_recipe(path, ["data.sources.0.weeks=8"]), home)
    second = run(load_recipe(path, ["data.sources.0.weeks=9"]), home)
    assert (first.accepted, second.accepted) == (2387, 440)
