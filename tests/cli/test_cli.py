"""The command line: what it says, where it says it, and with which status it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evertune.cli import COMMANDS
from evertune.registry.decisions import ledger
from evertune.registry.versions import versions as models
from tests.helpers.cli import Done, Project
from tests.helpers.registry import Shop

HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "mlflow",
    "prefect",
    "great_expectations",
    "pandas",
    "pyarrow",
    "numpy",
    "deltalake",
    "sqlalchemy",
    "pydantic",
}
Command = Callable[..., Done]


@pytest.mark.process
def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "evertune", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert not imported & HEAVY


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_its_help(evertune: Command, name: str) -> None:
    done = evertune(name, "--help")
    assert done.status == 0
    assert f"evertune {name} [OPTIONS]" in done.out


def test_all_config_errors_come_at_once_with_status_2(evertune: Command, tiny_recipe: Callable[..., Path]) -> None:
    path = tiny_recipe(
        training={"epochs": -1, "leraning_rate": 1}, evaluation={"metric": "f1_makro"}, schedul={"cron": "x"}
    )
    done = evertune("check", path)
    assert (done.status, done.out) == (2, "")
    for words in ("training.epochs", "training.leraning_rate: unknown key; did you mean learning_rate?", "schedul: "):
        assert words in done.err
    assert "Traceback" not in done.err
    again = evertune("run", path, "--json")
    assert (again.status, again.out, again.err) == (2, "", done.err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["check", "{recipe}", "--set", "training.epochs"], "write it as path.to.key=value"),
        (["check", "{recipe}", "--set", "training.epoch=3"], "did you mean epochs?"),
        (["check", "{recipe}", "--what"], "No such option"),
        (["chek", "{recipe}"], "No such command 'chek'. Did you mean check?"),
        (["history", "{folder}"], "this is a folder; give the path of a recipe in it"),
        (["history", "{empty}"], "empty.yaml: this file is empty; write lines of `key: value`"),
        (["forget", "{recipe}", "--ids-file", "{empty}", "--reason", "x"], "empty.yaml: the file holds no id"),
        (["check", "{recipe}", "--set", "base_model=./nowhere"], "base_model: ./nowhere: no such folder"),
        (["check", "{recipe}", "--set", "data.sources.0.path=${{NOT_SET}}/x.csv"], "variable NOT_SET is not set"),
        (["promote", "{recipe}", "--reason", "x"], "--version"),
    ],
)
def test_what_is_wrong_in_a_call_ends_with_status_2(
    evertune: Command, tiny_recipe: Callable[..., Path], arguments: list[str], words: str
) -> None:
    path = tiny_recipe()
    empty = path.with_name("empty.yaml")
    empty.touch()
    done = evertune(*[one.format(recipe=path, folder=path.parent, empty=empty) for one in arguments])
    assert (done.status, done.out) == (2, "")
    assert words in done.err


def test_check_prints_one_json_object_and_trains_nothing(evertune: Command, tiny_recipe: Callable[..., Path]) -> None:
    done = evertune("check", tiny_recipe(), "--json")
    assert done.status == 0
    found = json.loads(done.out)
    assert (found["rows"], found["accepted"], found["labels"]) == (60, 60, {"refund": 30, "delivery": 30})
    assert not Path(os.environ["EVERTUNE_HOME"]).exists()
    assert "the recipe is valid" in evertune("check", tiny_recipe()).out


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (
            {"cron": "0 25 * * *"},
            "schedule.cron: bad hour; the fields are minute, hour, day, month, weekday, not '0 25 * * *'",
        ),
        ({"cron": "nightly"}, "schedule.cron: must have five fields"),
        ({"cron": "0 0 3 * * *"}, "schedule.cron: must have five fields"),
        ({"cron": "0 0 31 2 *"}, "schedule.cron: bad day-of-month"),
        (
            {"cron": "0 3 * * *", "timezone": "Europe/Berln"},
            "schedule.timezone: unknown time zone; did you mean Europe/Berl",
        ),
        ({"cron": "0 3 * * *", "timezone": "../etc"}, "schedule.timezone: unknown time zone; use a name such as UTC"),
        ({"cron": "0 3 * * *", "timezone": ""}, "schedule.timezone: unknown time zone"),
        ({"cron": "0 3 * * *", "timezone": "Europe"}, "schedule.timezone: unknown time zone"),
    ],
)
def test_a_schedule_that_never_comes_is_a_config_error(
    evertune: Command, tiny_recipe: Callable[..., Path], schedule: dict[str, str], words: str
) -> None:
    done = evertune("check", tiny_recipe(schedule=schedule))
    assert done.status == 2
    assert words in done.err


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/15 8-18 * * mon-fri", "0 0 L * *", "0 0 * * 1#2", "5,35 * 1 jan 7"])
def test_a_schedule_that_the_recipe_takes_is_one_for_prefect(tiny_recipe: Callable[..., Path], cron: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    from evertune.config import load_recipe

    schedule = load_recipe(tiny_recipe(schedule={"cron": cron, "timezone": "America/New_York"})).schedule
    assert schedule is not None
    assert CronSchedule(cron=schedule.cron, timezone=schedule.timezone).cron == cron


@pytest.mark.parametrize(
    ("command", "variable", "url"),
    [("run", "MLFLOW_TRACKING_URI", "http://127.0.0.1:9"), ("run", "PREFECT_API_URL", "http://127.0.0.1:9/api")],
)
def test_a_server_that_does_not_answer_ends_with_status_5(
    evertune: Command,
    tiny_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    variable: str,
    url: str,
) -> None:
    monkeypatch.setenv(variable, url)
    done = evertune(command, tiny_recipe())
    assert done.status == 5
    assert "127.0.0.1:9 does not answer" in done.err
    assert f"unset {variable}" in done.err


@pytest.mark.process
def test_debug_shows_the_traceback(tiny_recipe: Callable[..., Path]) -> None:
    path = tiny_recipe(training={"epochs": -1})
    for flags, shown in (["--debug"], True), ([], False):
        command = [sys.executable, "-m", "evertune", *flags, "check", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert ("Traceback" in done.stderr) is shown
        assert "training.epochs" in done.stderr


def test_an_error_that_nobody_foresaw_has_one_line(
    evertune: Command, tiny_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise LookupError("a surprise\nwith details")

    monkeypatch.setattr("evertune.profiling.preview.preview_recipe", breaks)
    done = evertune("check", tiny_recipe())
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: LookupError: a surprise (`evertune --debug ...` shows the traceback)\n"


def test_a_full_disk_is_named(
    evertune: Command, tiny_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("wrapped") from OSError(28, "No space left on device", "corpus/part-0")

    monkeypatch.setattr("evertune.profiling.preview.preview_recipe", full)
    done = evertune("check", tiny_recipe())
    assert done.status == 3
    assert "the disk is full while writing corpus/part-0; free some space and run again" in done.err


def test_moves_by_hand_ask_for_a_reason_and_show_in_the_history(
    evertune: Command, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    monkeypatch.setenv("EVERTUNE_USER", "dana")
    path = tmp_path / "recipe.yaml"
    for _ in range(2):
        models.move_champion(shop.home, shop.name, shop.checked(), expected=shop.champion(), reason="better")
    done = evertune("rollback", path, "--reason", "a bad [night]")
    assert (done.status, done.out) == (0, "")
    assert "version 1 is champion again" in done.err
    assert evertune("promote", path, "--version", "2", "--reason", "it was not the model").status == 0
    refused = evertune("approve", path, "--version", "2", "--reason", "x")
    assert (refused.status, refused.out) == (5, "")
    assert "does not wait for approval" in refused.err
    assert evertune("reject", path, "--version", "9", "--reason", "x").status == 5
    shown = evertune("history", path).out
    assert "rollback: a bad [night]" in shown
    assert "2 -> 1" in shown
    assert "dana" in shown
    found = json.loads(evertune("history", path, "--json").out)
    assert found == ledger.read_entries(shop.home)
    assert [one["event"] for one in found].count("moved") == 4


def test_moves_by_hand_need_no_secret_of_a_source(
    evertune: Command, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_recipe: Callable[..., Path]
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    for _ in range(2):
        models.move_champion(shop.home, shop.name, shop.checked(), expected=shop.champion(), reason="better")
    sources = [{"url": "postgresql://me:${SHOP_DB}@db/shop", "sql": "select 1"}]
    path = write_recipe(tmp_path, name=shop.name, base_model="${SHOP_MODELS}/x", data={"sources": sources})
    assert evertune("rollback", path, "--reason", "a bad night").status == 0
    assert evertune("promote", path, "--version", "2", "--reason", "it was not the model").status == 0
    assert "does not wait for approval" in evertune("approve", path, "--version", "2", "--reason", "x").err
    assert "a bad night" in evertune("history", path).out
    refused = evertune("check", path)
    assert refused.status == 2
    assert "data.sources.0.url: the environment variable SHOP_DB is not set" in refused.err


def test_history_changes_nothing_whatever_store_is_named(
    evertune: Command, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    models.move_champion(shop.home, shop.name, shop.checked(), expected=None, reason="better")
    before = shop.home.ledger.read_bytes()
    for uri in (f"sqlite:///{tmp_path}/other.db", "sqlite:////nonexistent/x.db", "http://127.0.0.1:9"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert evertune("history", tmp_path / "recipe.yaml").status == 0
    assert shop.home.ledger.read_bytes() == before
    assert not (tmp_path / "other.db").exists()


def test_before_the_first_run_history_says_so(evertune: Command, shop: Shop, tmp_path: Path) -> None:
    done = evertune("history", tmp_path / "recipe.yaml")
    assert (done.status, done.out) == (0, f"no decision yet; `evertune run {tmp_path}/recipe.yaml` makes the first\n")
    assert evertune("history", tmp_path / "recipe.yaml", "--json").out == "[]\n"


def test_no_reason_given_and_nobody_to_ask_moves_nothing(
    evertune: Command, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    shop.checked()
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        done = evertune("promote", tmp_path / "recipe.yaml", "--version", "1")
    assert (done.status, done.out) == (2, "")
    assert "--reason is required" in done.err
    for blank in ("", " \t"):
        done = evertune("promote", tmp_path / "recipe.yaml", "--version", "1", "--reason", blank)
        assert (done.status, done.out) == (2, "")
        assert "the reason is blank" in done.err
    assert shop.champion() is None


def test_a_reason_is_asked_for_on_a_terminal_and_kept_without_its_blanks(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from evertune.cli.decisions import promote

    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    shop.checked()
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    command = [str(tmp_path / "recipe.yaml"), "--version", "1"]
    assert CliRunner().invoke(promote, command, input=" \n").exit_code == 2
    assert shop.champion() is None
    assert CliRunner().invoke(promote, command, input="  the old one was odd \n").exit_code == 0
    assert ledger.read_entries(shop.home)[-1]["reason"] == "the old one was odd"


def test_a_move_that_a_crash_cut_off_is_repaired_by_the_next_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from evertune.runs.unchanged import record_if_unchanged

    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    shop.checked()
    ledger.append_event(shop.home, "intent", **{"from": None, "to": 1, "reason": "by hand"})
    assert record_if_unchanged(shop.recipe) is None
    assert [one["event"] for one in ledger.read_entries(shop.home)] == ["intent", "abandoned"]


@pytest.mark.slow
def test_a_second_run_of_the_same_model_does_not_start(project: Project) -> None:
    with project.home.lock("run"):
        done = project.run()
    assert (done.status, done.out) == (5, "")
    assert "another process has held the run lock of tickets" in done.err
