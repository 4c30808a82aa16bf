"""What a history can bring: clocks, gaps, other columns, edited recipes, a lost champion. Each with a clear outcome."""

import contextlib
import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evertune.cli import main
from evertune.config import Data, Recipe, load_recipe
from evertune.records import Decision
from evertune.registry.decisions import ledger
from evertune.registry.versions import versions as models
from evertune.runs import recipe_changes
from evertune.runtime.files import read_json
from tests.helpers.cli import Done, Project, ticket_rows

START = datetime(2026, 3, 2, tzinfo=UTC)
COLUMNS = ("id", "text", "label", "at")
DATA = {
    "sources": [{"path": "rows/*.csv"}],
    "columns": {"timestamp": "at", "id": "id"},
    "split": {"validation": 0.1, "test": 0.25},
}


def write(path: Path, count: int, first: int, begin: datetime = START, only: str | None = None, **names: str) -> Path:
    """Rows from number `first` on, one every four hours; `names` calls columns otherwise, or drops them with `''`."""
    shown = {name: names.get(name, name) for name in COLUMNS}
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([name for name in shown.values() if name])
        for number, (text, target) in enumerate(ticket_rows(count, first)):
            when = (begin + number * timedelta(hours=4)).isoformat()
            cells = {"id": f"T{first + number}", "text": text, "label": only or target, "at": when}
            writer.writerow([cells[name] for name, called in shown.items() if called])
    return path


@contextlib.contextmanager
def inside(project: Project) -> Iterator[None]:
    """Commands over the project run in this process, and start none of their own."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    passed = {"test": "parity", "passed": True, "problem": None}
    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_API_URL: project.server}):
        patch.setenv("EVERTUNE_HOME", str(project.home.root))
        patch.setenv("PREFECT_API_URL", project.server)
        patch.setattr("evertune.registry.versions.parity.prepare_check", lambda *_: None)
        patch.setattr("evertune.registry.versions.parity.check_parity", lambda *_: passed)
        yield


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_server: str, model_store: Path) -> Project:
    """A project with a champion, trained on five weeks of rows."""
    folder = tmp_path_factory.mktemp("old")
    shutil.copytree(model_store.with_name("empty"), folder / "home")
    write(folder / "rows" / "a.csv", 200, 0)
    project = Project(folder, tiny_model, prefect_server).write(data=DATA)
    with inside(project), pytest.raises(SystemExit):
        main(["run", str(project.recipe)])
    assert project.entries("decision")[-1]["verdict"] == "promoted"
    return project


@pytest.fixture
def ask(old: Project, evertune: Callable[..., Done]) -> Iterator[Callable[..., tuple[int, str]]]:
    """`ask("run", ...)`: a command over the project; its status, and all that it printed."""

    def call(command: str, *arguments: str) -> tuple[int, str]:
        done = evertune(command, old.recipe, *arguments)
        return done.status, " ".join((done.out + done.err).split())

    with inside(old):
        yield call
    (old.folder / "rows" / "b.csv").unlink(missing_ok=True)
    old.write(data=DATA)


Ask = Callable[..., tuple[int, str]]


def fresh(old: Project, count: int = 60, first: int = 500, **more: Any) -> Path:
    return write(old.folder / "rows" / "b.csv", count, first, **more)


def rows_now(old: Project) -> int:
    return int(sum(read_json(old.home.state)["concluded"]["outcome"]["snapshot"]["rows"].values()))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"begin": datetime(2090, 1, 1, tzinfo=UTC)},
            ["60 timestamp in the future", "at: 2090-01-01 00:00 is in the future (this machine's clock: "],
        ),
        ({"only": "refund"}, ["label: 100.0% of the labels are 'refund'; contract.label.max_share allows 98.0%"]),
        (
            {"at": ""},
            [
                "at: no such column in rows/b.csv; it has id, text, label; name the right one in",
                "data.columns.timestamp",
            ],
        ),
        ({"label": "intent"}, ["label: no such column in rows/b.csv", "name the right one in data.columns.label"]),
        ({"text": "id", "id": "text"}, ["If the source changed its columns, correct data.columns.text"]),
        ({"label": "text", "text": "label"}, ["60 unknown label"]),
        ({"at": "id", "id": "at"}, ["60 unreadable timestamp", "at: '500' is not a date or time"]),
    ],
    ids=[
        "future",
        "one label",
        "column vanished",
        "label renamed",
        "numbers for texts",
        "texts for labels",
        "numbers for moments",
    ],
)
def test_rows_that_are_others_than_before_stop_the_run(
    old: Project, ask: Ask, more: dict[str, Any], said: Sequence[str]
) -> None:
    path = fresh(old, **more)
    if more.keys() & {"id"}:  # ids are numbers, so that they can stand for what is none
        path.write_text(path.read_text().replace("T5", "5"))
    status, words = ask("run")
    assert status == 3
    for one in said:
        assert one in words
    assert rows_now(old) == 200


def test_without_the_id_column_a_recipe_is_not_that_of_its_corpus(old: Project, ask: Ask) -> None:
    data = {**DATA, "columns": {"timestamp": "at"}}
    old.write(data=data)
    status, words = ask("run")
    assert status == 2
    assert "maps the roles text, label, timestamp, but the corpus of" in words
    assert "was built with text, label, id, timestamp. Every row would count as new" in words


def test_a_renamed_column_reaches_new_files_alone(old: Project, ask: Ask) -> None:
    """The old file is still there, and has no such column."""
    fresh(old, label="intent")
    old.write(data={**DATA, "columns": {**DATA["columns"], "label": "intent"}})  # type: ignore[dict-item]
    status, words = ask("run")
    assert status == 3
    assert "rows/a.csv was ingested before" in words and "List only the newer files in data.sources" in words


def test_a_week_without_rows_is_no_work(old: Project, ask: Ask) -> None:
    fresh(old, 0)
    status, words = ask("run")
    assert (status, rows_now(old)) == (0, 200)
    assert "rows/b.csv has no rows" in words and "unchanged no fresh rows" in words


@pytest.mark.slow
def test_a_backtest_passes_over_weeks_without_rows_and_says_so(
    tmp_path: Path, tiny_model: Path, model_store: Path, evertune: Callable[..., Done]
) -> None:
    shutil.copytree(model_store.with_name("empty"), tmp_path / "home")
    write(tmp_path / "rows" / "a.csv", 100, 0)
    write(tmp_path / "rows" / "b.csv", 40, 100, START + timedelta(weeks=6), only="refund")
    training = {"epochs": 1, "tokens_per_batch": 512, "precision": "fp32"}
    project = Project(tmp_path, tiny_model, "").write(data=DATA, training=training)
    done = evertune(
        "backtest",
        project.recipe,
        "--policies",
        "gated",
        "--start",
        "2",
        "--json",
        "--set",
        "contract.label.max_share=1",
    )
    assert done.status == 0, done.err
    steps = done.json["steps"]
    assert [step["rows"] > 0 for step in steps].count(False) == 3
    assert done.err.count("no rows in the next window") == 3
    assert steps[-1]["rows"] and all(step["metrics"]["accuracy"] is not None for step in steps if step["rows"])


def test_the_recipe_of_the_champion_makes_it_again_and_promotes_nothing(old: Project, ask: Ask) -> None:
    status, words = ask("run", "--set", "evaluation.bootstrap=300")
    assert (status, len(old.entries("decision"))) == (0, 1)
    assert "unchanged these rows and this recipe make the champion again; nothing was trained" in words
    assert "the recipe has changed: evaluation.bootstrap 200 -> 300: intervals" in words
    assert old.entries("unchanged")[-1]["champion"] == 1


def test_after_a_rollback_the_recipe_of_then_makes_its_champion_again(
    old: Project, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = Decision("promoted", "better", ({"test": "superior", "p": 0.001, "passed": True},))
    with monkeypatch.context() as patch:
        patch.setattr("evertune.gate.challenge.decide_challenge", lambda *_: better)
        assert ask("run", "--set", "training.epochs=0.1")[0] == 0
    assert models.find_champion(old.home, "tickets") != 1
    assert ask("rollback", "--reason", "bad")[0] == 0
    status, words = ask("run")
    assert (status, models.find_champion(old.home, "tickets")) == (0, 1)
    assert "unchanged these rows and this recipe make the champion again; nothing was trained" in words


def test_late_rows_and_an_edited_recipe_are_told_and_kept_in_the_ledger(old: Project, ask: Ask) -> None:
    """Rows of a time before, some of them older versions of known ones; a clock that went back meanwhile."""
    state = old.home.state.read_text()
    entries = old.home.ledger.read_text()
    fresh(old, 30, 190, begin=START - timedelta(weeks=9), only="refund")
    ahead = {**json.loads(entries.splitlines()[-1]), "time": "2091-05-06T07:08:09+00:00", "event": "unchanged"}
    old.home.ledger.write_text(entries + json.dumps(ahead) + "\n")
    edits = ("evaluation.metric=accuracy", "training.epochs=0.1", "data.split.test=0.3", "contract.label.max_share=1")
    status, words = ask("run", *(part for edit in edits for part in ("--set", edit)))
    assert status == 0
    assert "at: 30 of 30 rows are older than the newest earlier row (2026-04-04 04:00). They count as fresh" in words
    assert "at: 10 of these replace a newer row with the same id" in words
    assert "the recipe has changed: evaluation.metric default -> accuracy: earlier decisions used another" in words
    assert "data.split.test 0.25 -> 0.3: earlier rows keep their split" in words
    assert "this machine's clock is behind" in words and "the ledger's last entry is of 2091-05-06 07:08" in words
    changed = old.entries("recipe")[-1]
    assert "training.epochs 8.0 -> 0.1: models are trained differently" in changed["reason"]
    assert [one["event"] for one in ledger.read_entries(old.home)][-2:] == ["recipe", "decision"]  # order, not time
    assert old.entries("decision")[-1]["verdict"] in {"held", "rejected"}
    assert json.loads(state)["concluded"] != read_json(old.home.state)["concluded"]


def test_a_lost_champion_holds_what_comes_and_says_how_to_go_on(old: Project, ask: Ask, tmp_path: Path) -> None:
    artifacts = models.fetch_bundle(old.home, "tickets", 1)
    away = artifacts.with_name("away")
    artifacts.rename(away)
    advice = (
        "make another version champion with `evertune promote RECIPE --version N` (`evertune run RECIPE` trains one)"
    )
    for command in (
        ["score", "--input", str(old.folder / "rows" / "a.csv"), "--output", str(tmp_path / "out.csv")],
        ["monitor"],
    ):
        status, words = ask(*command)
        assert (status, advice in words) == (5, True), words
    fresh(old, 40, 700, begin=START + timedelta(weeks=7))
    status, words = ask("run", "--set", "data.fresh.start_from=champion")
    assert status == 5
    assert "to train from the base model instead: `evertune run RECIPE --set data.fresh.start_from=base" in words
    status, words = ask("run", "--set", "training.epochs=0.1")
    assert (status, "held the champion, version 1, cannot be read" in words) == (0, True), words
    held = old.entries("decision")[-1]
    assert (held["verdict"], models.find_champion(old.home, "tickets")) == ("held", 1)
    status, words = ask("promote", "--version", str(held["version"]), "--reason", "the champion is lost")
    assert (status, models.find_champion(old.home, "tickets")) == (0, held["version"])
    away.rename(artifacts)


def test_each_key_of_a_recipe_has_a_meaning_for_its_history(old: Project) -> None:
    shaped = [name for name in Recipe.model_fields if name not in recipe_changes.IGNORED]
    parts = [f"data.{one}" for one in Data.model_fields if one != "sources"]
    for name in [*(one for one in shaped if one != "data"), *parts]:
        assert recipe_changes._find_effect(name)
    assert (
        recipe_changes.describe_changes(
            recipe_changes.summarize_recipe(load_recipe(old.recipe)),
            recipe_changes.summarize_recipe(load_recipe(old.recipe)),
        )
        == []
    )


def test_a_rename_that_was_taken_back_leaves_no_name_rather_than_a_default_one() -> None:
    before = {"contract": {"label": {"rename": {"refund": "money-back"}}, "tolerance": 0.2}}
    [labels, contract] = recipe_changes.describe_changes(before, {})
    assert labels.startswith("contract.label.rename.refund money-back -> none: ")
    assert contract.startswith("contract.tolerance 0.2 -> default: ")
