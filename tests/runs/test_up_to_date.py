"""When there is nothing to do, and when there is: sources, corpus and recipe against those of the last run."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from evertune.config import Recipe, Training, load_recipe
from evertune.data import admission
from evertune.data.corpus import transactions as corpus
from evertune.data.quarantine import release as quarantine
from evertune.data.sources import read as sources
from evertune.records import Outcome, Snapshot, compute_digest
from evertune.runs import up_to_date as conclusion
from evertune.runtime.context import RunContext, open_context
from evertune.runtime.files import read_json
from evertune.runtime.home import Home, home_of
from tests.helpers.cli import ticket_rows, write_rows
from tests.helpers.model import write_tiny_model

DONE = Outcome(
    "promoted", "good", "small", 1, 1, "run", {}, {"new": 60}, {"test": {"accuracy": 0.9}}, {"ingest": 1.0}, "page"
)
Write = Callable[..., Recipe]


@pytest.fixture
def write(tmp_path: Path, tiny_model: Path, write_recipe: Callable[..., Path]) -> Write:
    """A recipe over `rows/*.csv`, with sections replaced."""
    data = {"sources": [{"path": "rows/*.csv"}]}
    write_rows(tmp_path / "rows" / "a.csv", ticket_rows(60))

    def make(**sections: Any) -> Recipe:
        tree = {"base_model": str(tiny_model), "data": data, "contract": {"tolerance": 1.0}, **sections}
        return load_recipe(write_recipe(tmp_path, **tree))

    return make


def take_in(recipe: Recipe) -> Snapshot:
    home = home_of(recipe)
    batch = corpus.ingest_rows(RunContext(recipe, home), lambda seen: sources.read_sources(recipe, seen))
    return admission.admit_batch(batch, RunContext(recipe, home))[0]


def conclude(recipe: Recipe, snapshot: Snapshot) -> Home:
    home = home_of(recipe)
    conclusion.record_conclusion(RunContext(recipe, home), snapshot, DONE)
    return home


def start(recipe: Recipe) -> Outcome | None:
    return conclusion.check_before_start(open_context(recipe), sources.fingerprints)


def test_the_last_outcome_is_given_until_something_changes(write: Write, tmp_path: Path) -> None:
    recipe = write()
    assert start(recipe) is None
    conclude(recipe, take_in(recipe))
    same = start(recipe)
    assert same is not None
    assert (same.decision, same.run_id, same.metrics) == ("unchanged", "run", DONE.metrics)
    assert (same.rows["new"], same.seconds) == (0, {})
    write_rows(tmp_path / "rows" / "b.csv", ticket_rows(5, start=100))
    assert start(recipe) is None


def test_another_number_of_processes_is_nothing_new(write: Write) -> None:
    recipe = write()
    conclude(recipe, take_in(recipe))
    training = recipe.training.model_dump(mode="json")
    assert start(write(training={**training, "processes": 4})) is not None
    assert start(write(training={**training, "compile": True})) is not None
    assert start(write(training={**training, "seed": 4})) is None


def test_a_default_that_is_said_is_nothing_new(write: Write) -> None:
    recipe = write()
    conclude(recipe, take_in(recipe))
    said = recipe.training.model_dump(mode="json", exclude_defaults=True)
    assert start(write(training={**said, "warmup": 0.1})) is not None
    assert start(write(training={**said, "warmup": 0.2})) is None


def test_a_field_that_a_later_version_adds_changes_no_fingerprint(write: Write) -> None:
    recipe = write()
    later = create_model("Later", __base__=Training, new=(int, 3))
    given = recipe.training.model_dump(mode="json")
    assert compute_digest(later(**given)) == compute_digest(recipe.training)
    assert compute_digest(later(**given, new=4)) != compute_digest(recipe.training)


def test_another_objective_is_another_fingerprint_though_all_its_options_are_defaults(write: Write) -> None:
    one = write(objective={"type": "text-classification"})
    other = write(objective={"type": "token-classification"})
    assert compute_digest(one.objective) != compute_digest(other.objective)
    assert conclusion.recipe_fingerprint(one) != conclusion.recipe_fingerprint(other)


@pytest.mark.parametrize("where", ["(:cursor IS NULL OR id > :cursor)", "id > 0"])
def test_a_query_is_asked_before_anything_starts(write: Write, tmp_path: Path, where: str) -> None:
    add = "INSERT INTO t VALUES (?, ?, ?)"
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.execute("CREATE TABLE t (id INTEGER, text TEXT, label TEXT)")
        database.executemany(add, [(number, *row) for number, row in enumerate(ticket_rows(60), 1)])
    cursor = {"cursor": "id"} if "cursor" in where else {}
    query = {"url": "sqlite:///t.db", "sql": f"SELECT * FROM t WHERE {where}", **cursor}
    recipe = write(data={"sources": [query]})
    conclude(recipe, take_in(recipe))
    assert start(recipe) is not None
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.execute(add, (61, "something quite new", "refund"))
    assert start(recipe) is None


@pytest.mark.parametrize(
    ("sections", "same"),
    [
        ({"training": {"seed": 3}}, False),
        ({"evaluation": {"metric": "accuracy"}}, False),
        ({"objective": {"type": "text-classification", "max_length": 16}}, False),
        ({"registry": {"promote": "ask"}}, True),
        ({"schedule": {"cron": "0 3 * * *"}}, True),
        ({"contract": {"tolerance": 0.5}}, True),
    ],
)
def test_only_what_decides_a_result_makes_a_run(write: Write, sections: dict[str, Any], same: bool) -> None:
    recipe = write()
    conclude(recipe, take_in(recipe))
    assert (start(write(**sections)) is not None) is same


def test_another_base_model_makes_a_run(write: Write, tmp_path: Path) -> None:
    recipe = write(base_model=str(write_tiny_model(tmp_path / "base")))
    conclude(recipe, take_in(recipe))
    assert start(recipe) is not None
    write_tiny_model(tmp_path / "base", num_hidden_layers=1)
    assert start(recipe) is None


def test_rows_that_came_during_the_training_are_still_fresh(write: Write, tmp_path: Path) -> None:
    recipe = write()
    snapshot = take_in(recipe)
    write_rows(tmp_path / "rows" / "late.csv", ticket_rows(5, start=100))
    conclude(recipe, snapshot)
    assert start(recipe) is None
    assert take_in(recipe).accepted == 5


def test_rows_released_from_quarantine_make_a_run(write: Write, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "b.csv", [("where is it", "lost")])
    home = conclude(write(), take_in(write()))
    wider = write(contract={"tolerance": 0.9, "label": {"values": ["refund", "delivery", "account", "lost"]}})
    assert start(wider) is not None
    assert quarantine.release_rows(RunContext(wider, home)).released == 1
    assert start(wider) is None
    assert (take_in(wider).new, take_in(wider).accepted) == (1, 1)


def test_a_batch_that_waits_makes_a_run(write: Write, tmp_path: Path) -> None:
    recipe = write()
    home = conclude(recipe, take_in(recipe))
    write_rows(tmp_path / "rows" / "b.csv", ticket_rows(5, start=100))
    corpus.ingest_rows(RunContext(recipe, home), lambda seen: sources.read_sources(recipe, seen))
    (tmp_path / "rows" / "b.csv").unlink()
    assert start(recipe) is None


def test_sources_that_bring_nothing_new_are_read_once(write: Write, tmp_path: Path) -> None:
    recipe = write()
    conclude(recipe, take_in(recipe))
    shutil.copy(tmp_path / "rows" / "a.csv", tmp_path / "rows" / "copy.csv")
    assert start(recipe) is None
    same = conclusion.check_after_reading(open_context(recipe), take_in(recipe))
    assert same is not None
    assert same.rows["new"] == 0
    assert start(recipe) is not None


def test_a_source_that_is_gone_changes_nothing(write: Write, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "b.csv", ticket_rows(5, start=100))
    recipe = write()
    conclude(recipe, take_in(recipe))
    (tmp_path / "rows" / "b.csv").unlink()
    assert start(recipe) is not None


def test_rows_that_were_all_refused_are_told_and_train_nothing(write: Write, tmp_path: Path) -> None:
    recipe = write()
    home = conclude(recipe, take_in(recipe))
    write_rows(tmp_path / "rows" / "b.csv", [("", "refund"), ("", "account")])
    same = conclusion.check_after_reading(RunContext(recipe, home), take_in(recipe))
    assert same is not None
    assert same.rows == {"new": 2, "accepted": 0, "refused": 2, "reasons": {"missing text": 2}}
    assert take_in(recipe).refused == 0


def test_counts_are_of_all_batches_since_the_last_concluded_run(write: Write, tmp_path: Path) -> None:
    recipe = write()
    conclude(recipe, take_in(recipe))
    for number in range(2):
        write_rows(tmp_path / "rows" / f"more{number}.csv", [*ticket_rows(5, 100 + 5 * number), (f" {number}", "what")])
        snapshot = take_in(recipe)
    assert (snapshot.new, snapshot.accepted, snapshot.refused) == (12, 10, 2)
    assert snapshot.reasons == {"unknown label": 2}


def test_a_file_of_unchanged_size_and_time_is_not_read_again(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write()
    os.utime(tmp_path / "rows" / "a.csv", (1_000_000_000, 1_000_000_000))
    home = conclude(recipe, take_in(recipe))
    assert start(recipe) is not None
    assert list(read_json(home.state)["files"]) == ["rows/a.csv"]

    def unread(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("evertune.data.sources.content.file_digest", unread)
    assert start(recipe) is not None
