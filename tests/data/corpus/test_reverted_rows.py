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
from evertune.runtime.home import Home
from tests.helpers.data import current, good, home, ingest, recipe, run, write_csv
from tests.helpers.paths import ROOT

ROWS = [(f"k{number}", *row) for number, row in enumerate(good(20))]
HEADER = ("id", "text", "label")


def with_id(folder: Path, **sections: Any) -> Recipe:
    columns = {"id": "id", **sections.pop("columns", {})}
    return recipe(folder, data={"sources": [{"path": "*.csv"}], "columns": columns}, **sections)


def write(folder: Path, label: str, name: str = "a.csv", more: int = 0) -> None:
    """The 20 rows, k3 with this label, and some that nobody has seen."""
    rows = [(key, text, label if key == "k3" else own) for key, text, own in ROWS]
    fresh = [(f"m{number}", *row) for number, row in enumerate(good(more, start=500))]
    write_csv(folder / name, [*rows, *fresh], HEADER)


def label_of(place: Home, key: str = "k3") -> list[str]:
    return [row["label"] for row in current(place) if row["id"] == key]


@pytest.fixture
def changed(tmp_path: Path) -> tuple[Recipe, Home]:
    """A corpus in which k3 went from refund to card."""
    one = with_id(tmp_path)
    place = home(tmp_path)
    for label in ("refund", "card"):
        write(tmp_path, label)
        run(one, place)
    assert label_of(place) == ["card"]
    return one, place


def test_a_label_corrected_back_counts_each_time_and_once(changed: tuple[Recipe, Home], tmp_path: Path) -> None:
    one, place = changed
    for label in ("refund", "card", "refund"):
        write(tmp_path, label)
        assert run(one, place).accepted == 1
        assert label_of(place) == [label]
        write(tmp_path, label)
        assert ingest(one, place).rows == 0
    write(tmp_path, "refund", more=5)  # the file is read again: k3 is what it is
    assert run(one, place).accepted == 5
    versions = delta_tables.read_rows(place.corpus, ["row_version", "row_key"]).to_pylist()
    assert len({row["row_version"] for row in versions}) == len(versions)
    assert len([row for row in versions if row["row_key"] == "k3"]) == 5


def test_it_keeps_its_split(changed: tuple[Recipe, Home], tmp_path: Path) -> None:
    one, place = changed
    before = {row["id"]: row["split"] for row in current(place)}
    write(tmp_path, "refund")
    run(one, place)
    assert {row["id"]: row["split"] for row in current(place)} == before


def test_an_old_file_undoes_no_correction_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = with_id(tmp_path)
    place = home(tmp_path)
    write(tmp_path, "refund")
    run(one, place)
    write_csv(tmp_path / "b.csv", [("k3", ROWS[3][1], "card")], HEADER)
    run(one, place)
    write(tmp_path, "refund", more=5)
    with caplog.at_level(logging.WARNING):
        assert run(one, place).accepted == 5
    assert label_of(place) == ["card"]
    assert len(caplog.records) == 1
    assert caplog.text.count("1 rows hold older content that another source has corrected") == 1
    assert "newer timestamp" in caplog.text


def test_a_file_that_holds_its_history_brings_nothing_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = with_id(tmp_path, columns={"timestamp": "at"})
    place = home(tmp_path)
    rows = [("k", "2026-01-01", "the old text", "card"), ("k", "2026-02-01", "the new text", "card")]
    rows += [(key, "2026-01-01", text, label) for key, text, label in ROWS]
    for count in (20, 22):
        write_csv(tmp_path / "a.csv", rows[:count], ("id", "at", "text", "label"))
        with caplog.at_level(logging.WARNING):
            run(one, place)
    assert [row["text"] for row in current(place) if row["id"] == "k"] == ["the new text"]
    assert len(delta_tables.read_rows(place.corpus, ["id"])) == 22
    assert not [one for one in caplog.records if one.name == "evertune.data.corpus.reverted_rows"]


def test_a_delta_table_at_a_later_version_is_the_same_source(tmp_path: Path) -> None:
    one = recipe(tmp_path, data={"sources": [{"delta": "table"}], "columns": {"id": "id"}})
    place = home(tmp_path)
    for label in ("refund", "card", "refund"):
        rows = [{"id": key, "text": text, "label": label if key == "k3" else own} for key, text, own in ROWS]
        write_deltalake(str(tmp_path / "table"), pa.Table.from_pylist(rows), mode="overwrite")
        run(one, place)
        assert label_of(place) == [label]


def test_a_version_that_is_refused_on_its_return_is_not_judged_every_night(
    changed: tuple[Recipe, Home], tmp_path: Path
) -> None:
    _, place = changed
    strict = with_id(tmp_path, contract={"label": {"values": ["card"]}, "tolerance": 1.0})
    write(tmp_path, "refund")
    assert run(strict, place).refused == 1
    write(tmp_path, "refund", more=6)
    assert run(strict, place).refused == 3  # of the six that are new
    assert label_of(place) == ["card"]


def test_a_return_in_a_stopped_batch_is_judged_again(changed: tuple[Recipe, Home], tmp_path: Path) -> None:
    one, place = changed
    strict = with_id(tmp_path, contract={"label": {"values": ["card"]}})
    write(tmp_path, "refund")
    with pytest.raises(BatchStoppedError):
        run(strict, place)
    assert run(one, place).accepted == 1
    assert label_of(place) == ["refund"]
    assert len(quarantine.list_refused(place)) == 0


def test_a_crash_between_the_two_commits_takes_a_return_in_once(
    changed: tuple[Recipe, Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, place = changed
    write(tmp_path, "refund")
    with monkeypatch.context() as patch:
        patch.setattr(staging, "forget_staged", None)  # fails when the commit has reached both tables
        with pytest.raises(TypeError):
            run(one, place)
    run(one, place)
    write(tmp_path, "refund", more=1)
    assert run(one, place).accepted == 1
    assert label_of(place) == ["refund"]
    assert len(delta_tables.read_rows(place.corpus, ["id"])) == 23


def test_a_refused_row_can_be_mended_into_an_older_version(changed: tuple[Recipe, Home], tmp_path: Path) -> None:
    _, place = changed
    loose = with_id(tmp_path, contract={"tolerance": 1.0})
    write(tmp_path, "crd")
    assert run(loose, place).refused == 1
    version = quarantine.list_refused(place)["row_version"]
    done = quarantine.release_rows(loose, place, pa.table({"row_version": version, "label": ["refund"]}))
    assert (done.released, done.known) == (1, 0)
    assert label_of(place) == ["refund"]
    assert corpus.last_number(place) == 4


def test_a_source_of_nothing_but_new_rows_is_taken_in_where_keys_have_changed(
    changed: tuple[Recipe, Home], tmp_path: Path
) -> None:
    """What was read is looked into for keys that changed, holds none, and is taken in as it is."""
    one, place = changed
    write_csv(tmp_path / "b.csv", [(f"m{number}", *row) for number, row in enumerate(good(5, start=500))], HEADER)
    assert run(one, place).accepted == 5
    assert len(current(place)) == 25 and label_of(place) == ["card"]


def test_the_ninth_week_of_the_sample_corpus_comes_after_the_eighth(tmp_path: Path) -> None:
    """The README's second act, as far as its rows go."""
    path = ROOT / "configs" / "support_intents.yaml"
    place = home(tmp_path)
    first = run(load_recipe(path, ["data.sources.0.weeks=8"]), place)
    second = run(load_recipe(path, ["data.sources.0.weeks=9"]), place)
    assert (first.accepted, second.accepted) == (2387, 440)
