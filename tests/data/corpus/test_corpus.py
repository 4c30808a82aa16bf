"""Rows enter the corpus exactly once, whatever crashes, and its current view keeps what was promised."""

import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evertune.config import Recipe
from evertune.data import admission
from evertune.data.corpus import staging
from evertune.data.corpus import transactions as corpus
from evertune.data.quarantine import release as quarantine
from evertune.data.sources import read as sources
from evertune.errors import ConfigError, DataError
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json, write_json
from tests.helpers.data import current, good, ingest, make_home, make_recipe, run, write_csv, write_jsonl

BAD = [("", "card"), ("caf\u00c3\u00a9 was shut", "refund")]
TOLERANT: dict[str, Any] = {"contract": {"tolerance": 0.5}}


def test_rows_enter_once(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    first = run(recipe, home)
    assert (first.new, first.accepted, first.refused, first.batch) == (20, 20, 0, 1)
    again = ingest(recipe, home)
    assert (again.path, again.rows, again.read, again.number) == (None, 0, 0, 1)
    assert corpus.take_snapshot(home).fingerprint == first.fingerprint


def test_a_copied_or_renamed_file_brings_nothing_and_is_remembered(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    run(recipe, home)
    shutil.copy(tmp_path / "a.csv", tmp_path / "b.csv")
    batch = ingest(recipe, home)
    assert (batch.rows, batch.read) == (0, 20)
    assert set(read_json(home.state)["sources"]) == {"a.csv", "b.csv"}


def test_equal_rows_of_one_file_stay_and_a_growing_file_adds_only_what_is_new(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [*good(20), *good(2)])
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    assert run(recipe, home).accepted == 22
    write_csv(tmp_path / "a.csv", [*good(20), *good(2), *good(1), *good(3, start=50)])
    assert run(recipe, home).accepted == 4
    counts = Counter(row["text"] for row in current(home, "text"))
    assert counts[good(1)[0][0]] == 3


def test_refused_rows_are_kept_with_reasons_and_not_read_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [*good(20), *BAD])
    recipe = make_recipe(tmp_path, **TOLERANT)
    home = make_home(tmp_path)
    snapshot = run(recipe, home)
    assert snapshot.reasons == {"missing text": 1, "encoding damage": 1}
    assert (snapshot.new, snapshot.accepted, snapshot.refused) == (22, 20, 2)
    write_csv(tmp_path / "b.csv", BAD)
    assert ingest(recipe, home).rows == 0
    assert [row["source_row"] for row in quarantine.list_refused(home).to_pylist()] == [20, 21]


def test_a_staged_batch_is_resumed_before_anything_is_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    staged = ingest(recipe, home)
    write_csv(tmp_path / "b.csv", good(10, start=100))
    assert ingest(recipe, home) == staged
    assert run(recipe, home).accepted == 20
    assert run(recipe, home).accepted == 10


def test_a_staged_batch_of_another_mapping_is_read_again(tmp_path: Path) -> None:
    rows = [(text, "wrong", label) for text, label in good(20)]
    write_csv(tmp_path / "a.csv", rows, ("text", "label", "intent"))
    home = make_home(tmp_path)
    ingest(make_recipe(tmp_path), home)
    mended = make_recipe(tmp_path, data={"sources": [{"path": "*.csv"}], "columns": {"label": "intent"}})
    assert run(mended, home).labels == ("card", "refund")


def test_committing_again_changes_nothing(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    batch = ingest(recipe, home)
    first, _ = admission.admit_batch(batch, RunContext(recipe, home))
    again, verdicts = admission.admit_batch(batch, RunContext(recipe, home))
    assert verdicts is None
    assert again == first
    rows = corpus.read_rows(home, first.version)
    corpus.commit_batch(batch, corpus.ChunkFile(home.batches), rows, rows, home)
    assert corpus.take_snapshot(home) == first


def test_data_docs_of_every_batch_since_the_last_concluded_run_are_named(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    for number in (1, 2):  # the first run dies after its commit
        write_csv(tmp_path / f"{number}.csv", good(20, start=20 * number))
        batch = ingest(recipe, home)
        snapshot, _ = admission.admit_batch(batch, RunContext(recipe, home), home.data_docs / f"{batch.number:06d}")
        assert snapshot.data_docs == tuple(str(home.data_docs / f"{n:06d}") for n in range(1, number + 1))
    state = read_json(home.state)
    write_json(home.state, {**state, "concluded": {"batch": 1}})
    assert corpus.take_snapshot(home).data_docs == (str(home.data_docs / "000002"),)


def test_what_was_replaced_is_not_committed(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    batch = ingest(recipe, home)
    nothing = pa.table({})
    staging.forget_staged(home)
    write_csv(tmp_path / "a.csv", good(21))
    ingest(recipe, home)
    with pytest.raises(DataError, match="run again"):
        corpus.commit_batch(batch, corpus.ChunkFile(home.batches), nothing, nothing, home)


def test_a_changed_row_supersedes_and_keeps_its_split(tmp_path: Path) -> None:
    columns = {"id": "ticket", "timestamp": "at"}
    recipe = make_recipe(tmp_path, data={"sources": [{"path": "*.jsonl"}], "columns": columns})
    home = make_home(tmp_path)
    rows = [
        {"ticket": f"t{number}", "at": "2026-01-01", "text": text, "label": label}
        for number, (text, label) in enumerate(good(60))
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    run(recipe, home)
    before = {row["id"]: row for row in current(home)}
    changed = [{**row, "text": f"entirely other words {row['ticket']}", "label": "card"} for row in rows[:30]]
    write_jsonl(tmp_path / "b.jsonl", changed)
    snapshot = run(recipe, home)
    after = {row["id"]: row for row in current(home)}
    assert len(after) == 60 == sum(snapshot.rows.values())
    assert {key: row["split"] for key, row in after.items()} == {key: row["split"] for key, row in before.items()}
    assert {row["label"] for key, row in after.items() if int(key[1:]) < 30} == {"card"}
    assert after["t0"]["text"] == "entirely other words t0"
    old = corpus.read_rows(home, snapshot.version - 1, ["id", "text"]).to_pylist()
    assert {row["id"]: row["text"] for row in old} == {key: row["text"] for key, row in before.items()}


def test_within_a_batch_the_later_moment_wins(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, data={"sources": [{"path": "*.csv"}], "columns": {"id": "id", "timestamp": "at"}})
    home = make_home(tmp_path)
    rows = [(f"n{number}", "2026-01-01", text, label) for number, (text, label) in enumerate(good(20))]
    rows = [("x", "2026-03-01", "the newer version", "card"), ("x", "2026-02-01", "the older one", "card"), *rows]
    write_csv(tmp_path / "a.csv", rows, ("id", "at", "text", "label"))
    assert run(recipe, home).accepted == 22
    assert [row["text"] for row in current(home) if row["id"] == "x"] == ["the newer version"]


def test_a_label_keeps_its_index_for_ever(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    home = make_home(tmp_path)
    run(make_recipe(tmp_path), home)
    write_csv(tmp_path / "b.csv", [("apple banana cherry", "aaa"), ("dates eggs figs", "aaa")])
    wider = make_recipe(tmp_path, contract={"label": {"values": ["aaa", "card", "refund"]}})
    assert run(wider, home).labels == ("card", "refund", "aaa")


def test_changed_roles_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    home = make_home(tmp_path)
    run(make_recipe(tmp_path), home)
    with pytest.raises(ConfigError, match="new name"):
        ingest(make_recipe(tmp_path, data={"sources": [{"path": "*.csv"}], "columns": {"id": "text"}}), home)


@pytest.mark.parametrize("columns", [{}, {"id": "id"}])
def test_a_changed_split_of_a_source_is_refused(tmp_path: Path, columns: dict[str, str]) -> None:
    write_csv(tmp_path / "a.csv", [(*row, number) for number, row in enumerate(good(20))], ("text", "label", "id"))
    home = make_home(tmp_path)

    def with_source(source: dict[str, Any]) -> Recipe:
        return make_recipe(tmp_path, data={"sources": [source], "columns": columns})

    run(with_source({"path": "*.csv"}), home)
    with pytest.raises(ConfigError, match=r"a\.csv now has `split: test`, but was ingested with no split"):
        ingest(with_source({"path": "a.csv", "split": "test"}), home)
    assert not list(home.batches.iterdir())


def test_another_file_may_have_another_split_with_the_same_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    home = make_home(tmp_path)
    train = {"path": "a.csv", "split": "train"}
    run(make_recipe(tmp_path, data={"sources": [train]}), home)
    write_csv(tmp_path / "b.csv", good(5))
    recipe = make_recipe(tmp_path, data={"sources": [train, {"path": "b.csv", "split": "test"}]})
    assert run(recipe, home).accepted == 5
    assert read_json(home.state)["splits"] == {"a.csv": "train", "b.csv": "test"}
    with pytest.raises(ConfigError, match=r"b\.csv now has `split: train`, but was ingested with `split: test`"):
        ingest(make_recipe(tmp_path, data={"sources": [train, {"path": "b.csv", "split": "train"}]}), home)


def test_the_fingerprint_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "one")
    home = make_home(tmp_path / "one")
    write_csv(tmp_path / "one" / "a.csv", good(30))
    first = run(recipe, home)
    two = make_recipe(tmp_path / "two")
    other = make_home(tmp_path / "two")
    write_csv(tmp_path / "two" / "z.csv", good(30)[::-1])
    assert run(two, other).fingerprint == first.fingerprint
    write_csv(tmp_path / "two" / "y.csv", good(1, start=99))
    assert run(two, other).fingerprint != first.fingerprint


def test_an_empty_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows yet"):
        corpus.take_snapshot(make_home(tmp_path))


def test_an_unknown_version_is_an_error(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    run(make_recipe(tmp_path), make_home(tmp_path))
    with pytest.raises(DataError, match="version 99"):
        corpus.read_rows(make_home(tmp_path), 99)


def test_another_process_that_stages_meanwhile_is_followed(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    recipe = make_recipe(tmp_path)
    home = make_home(tmp_path)
    other = []

    def slow(seen: dict[str, str]) -> Any:
        pieces = list(sources.read_sources(recipe, seen))
        other.append(ingest(recipe, home))
        return pieces

    assert corpus.ingest_rows(RunContext(recipe, home), slow) == other[0]


def test_nothing_is_logged_above_info_on_a_good_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_csv(tmp_path / "a.csv", good(20))
    with caplog.at_level(logging.WARNING):
        run(make_recipe(tmp_path), make_home(tmp_path))
    assert caplog.records == []
