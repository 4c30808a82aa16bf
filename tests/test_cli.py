"""The command line: what it says, where it says it, and with which status it ends."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_helpers import Done, Project, ticket_rows, write_rows
from registry_helpers import Shop

from evertune.cli import COMMANDS, main
from evertune.registry import ledger, models

HEAVY = {
    "torch", "transformers", "datasets", "mlflow", "prefect", "great_expectations", "pandas", "pyarrow", "numpy",
    "deltalake", "sqlalchemy", "pydantic",
}  # fmt: skip
Command = Callable[..., Done]


@pytest.fixture
def evertune(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`evertune("check", "recipe.yaml")`, in this process."""
    logger = logging.getLogger("evertune")
    before = logger.handlers, logger.level, logger.propagate
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments: str | Path) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(one) for one in arguments])
        said = capsys.readouterr()
        return Done(int(left.value.code or 0), said.out, said.err)

    yield call
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path, write_recipe: Callable[..., Path]) -> Callable[..., Path]:
    """`recipe(**sections)` writes a valid recipe with the tiny model and 60 rows."""
    return lambda **sections: write_recipe(tmp_path, base_model=str(tiny_model), **sections)


def write_data(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "rows.csv").write_bytes(content.encode() if isinstance(content, str) else content)


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


def test_all_config_errors_come_at_once_with_status_2(evertune: Command, recipe: Callable[..., Path]) -> None:
    path = recipe(training={"epochs": -1, "leraning_rate": 1}, evaluation={"metric": "f1_makro"}, schedul={"cron": "x"})
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
        (["chek", "{recipe}"], "No such command"),
        (["check", "{recipe}", "--set", "base_model=./nowhere"], "base_model: ./nowhere: no such folder"),
        (["check", "{recipe}", "--set", "data.sources.0.path=${{NOT_SET}}/x.csv"], "variable NOT_SET is not set"),
        (["promote", "{recipe}", "--reason", "x"], "--version"),
    ],
)
def test_what_is_wrong_in_a_call_ends_with_status_2(
    evertune: Command, recipe: Callable[..., Path], arguments: list[str], words: str
) -> None:
    path = str(recipe())
    done = evertune(*[one.format(recipe=path) for one in arguments])
    assert (done.status, done.out) == (2, "")
    assert words in done.err


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "rows.csv: no such file"),
        (b"", "rows.csv"),
        (b"text,label\n", "the sources hold no rows (rows.csv)"),
        ("text,label\ncafé,card\n".encode("latin-1"), "encoding"),
        (b"message,intent\nhi,card\n", "message"),
        (b"text,lable\nhi,card\n", "did you mean lable?"),
    ],
    ids=["missing", "empty", "header", "encoding", "columns", "column"],
)
def test_bad_data_ends_with_status_3(
    evertune: Command, recipe: Callable[..., Path], tmp_path: Path, content: bytes | None, words: str, command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = recipe()
    (tmp_path / "rows.csv").unlink()
    if content is not None:
        write_data(tmp_path, content)
    if command == "run":
        monkeypatch.setattr("evertune.cli.run._flow", _without_prefect)
    done = evertune(command, path)
    assert (done.status, done.out) == (3, "")
    assert words in done.err
    assert "Traceback" not in done.err


def _without_prefect(recipe: Any, *_: Any) -> None:
    from evertune import admission, corpus, sources
    from evertune.home import home_of

    home = home_of(recipe)
    admission.admit(corpus.ingest(recipe, home, lambda seen: sources.read(recipe, seen)), recipe, home)


@pytest.mark.parametrize(
    ("rows", "changes", "words"),
    [
        ([(text, "card") for text, _ in ticket_rows(30)], {}, "label"),
        ([*ticket_rows(30), ("only one of these", "lonely")], {"tolerance": 0.0}, "lonely"),
        (ticket_rows(30), {"label": {"values": ["refund", "delivery"]}}, "account"),
    ],
    ids=["one label only", "a label with one row", "more labels than listed"],
)
def test_rows_that_do_not_make_a_model_end_with_status_3(
    evertune: Command, recipe: Callable[..., Path], tmp_path: Path, rows: Any, changes: dict[str, Any], words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = recipe(contract=changes)
    write_rows(tmp_path / "rows.csv", rows)
    monkeypatch.setattr("evertune.cli.run._flow", _without_prefect)
    done = evertune("run", path, "--json")
    assert (done.status, done.out) == (3, "")
    assert words in done.err


def test_check_prints_one_json_object_and_trains_nothing(evertune: Command, recipe: Callable[..., Path]) -> None:
    done = evertune("check", recipe(), "--json")
    assert done.status == 0
    found = json.loads(done.out)
    assert (found["rows"], found["accepted"], found["labels"]) == (60, 60, {"refund": 30, "delivery": 30})
    assert not Path(os.environ["EVERTUNE_HOME"]).exists()
    assert "the recipe is valid" in evertune("check", recipe()).out


@pytest.mark.parametrize(
    ("command", "variable", "url"),
    [("history", "MLFLOW_TRACKING_URI", "http://127.0.0.1:9"), ("run", "PREFECT_API_URL", "http://127.0.0.1:9/api")],
)
def test_a_server_that_does_not_answer_ends_with_status_5(
    evertune: Command,
    recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    variable: str,
    url: str,
) -> None:
    monkeypatch.setenv(variable, url)
    done = evertune(command, recipe())
    assert done.status == 5
    assert "127.0.0.1:9 does not answer" in done.err
    assert f"unset {variable}" in done.err


def test_debug_shows_the_traceback(recipe: Callable[..., Path]) -> None:
    path = recipe(training={"epochs": -1})
    for flags, shown in (["--debug"], True), ([], False):
        command = [sys.executable, "-m", "evertune", *flags, "check", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert ("Traceback" in done.stderr) is shown
        assert "training.epochs" in done.stderr


def test_an_error_that_nobody_foresaw_has_one_line(
    evertune: Command, recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise LookupError("a surprise\nwith details")

    monkeypatch.setattr("evertune.preview.look", breaks)
    done = evertune("check", recipe())
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: LookupError: a surprise (run `evertune --debug ...` for the whole traceback)\n"


def test_a_full_disk_is_named(evertune: Command, recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("wrapped") from OSError(28, "No space left on device", "corpus/part-0")

    monkeypatch.setattr("evertune.preview.look", full)
    done = evertune("check", recipe())
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
    assert found == ledger.entries(shop.home)
    assert [one["event"] for one in found].count("moved") == 4


def test_no_reason_given_and_nobody_to_ask_moves_nothing(
    evertune: Command, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    shop.checked()
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert evertune("promote", tmp_path / "recipe.yaml", "--version", "1").status == 130
    assert shop.champion() is None


def test_a_move_that_a_crash_cut_off_is_repaired_by_the_next_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from evertune.cli.run import _nothing_to_do

    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    shop.checked()
    ledger.append(shop.home, "intent", **{"from": None, "to": 1, "reason": "by hand"})
    assert _nothing_to_do(shop.recipe) is None
    assert [one["event"] for one in ledger.entries(shop.home)] == ["intent", "abandoned"]


def test_a_second_run_of_the_same_model_waits_not_and_says_so(
    evertune: Command, recipe: Callable[..., Path], prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evertune.config import load
    from evertune.home import home_of

    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    path = recipe()
    with home_of(load(path)).lock("run"):
        done = evertune("run", path)
    assert done.status == 5
    assert "another process has held the run lock of small" in done.err


@pytest.mark.slow
def test_a_model_that_cannot_be_built_ends_with_status_4(project: Project, tiny_model: Path) -> None:
    broken = project.folder / "broken"
    broken.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    done = project.run("--set", f"base_model={broken}")
    assert (done.status, done.out) == (4, "")
    assert "base_model" in done.err
    assert "Traceback" not in done.err


def test_a_secret_in_a_failing_source_is_not_shown(
    evertune: Command, recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hu/sh@17")
    url = "postgresql+nodriver://me:${DB_PASSWORD}@127.0.0.1:9/shop"
    path = recipe(data={"sources": [{"url": url, "sql": "select 1"}]})
    for command in (["check", path], ["check", path, "--set", "data.sources.0.url=nonsense:${DB_PASSWORD}"]):
        done = evertune(*command)
        assert done.status == 3
        assert not any(part in done.err for part in ("hu/sh@17", "hush", "hu%2Fsh", "sh@17"))


@pytest.mark.slow
def test_a_secret_is_kept_nowhere(project: Project) -> None:
    import sqlite3
    import urllib.request

    secret = f"hush{time.time_ns()}"
    database = sqlite3.connect(project.folder / f"{secret}.db")
    database.execute("create table tickets (text, label)")
    database.executemany("insert into tickets values (?, ?)", ticket_rows(90))
    database.commit()
    database.close()
    source = {"url": "sqlite:///${TICKETS}.db", "sql": "select text, label from tickets"}
    project.write(data={"sources": [source], "split": {"validation": 0.1, "test": 0.25}})
    project.environment["TICKETS"] = secret
    done = project.evertune("--debug", "run", "recipe.yaml", "--json")
    assert (done.status, done.json["rows"]["accepted"]) == (0, 90)
    kept = {str(path): path.read_bytes() for path in project.home.root.rglob("*") if path.is_file()}
    request = urllib.request.Request(
        f"{project.server}/flow_runs/filter", b"{}", {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request) as reply:
        kept["prefect"] = reply.read()
    logs = urllib.request.Request(f"{project.server}/logs/filter", b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(logs) as reply:
        kept["logs"] = reply.read()
    assert b"${TICKETS}" in kept["prefect"]
    assert [place for place, content in kept.items() if secret.encode() in content] == []
    assert secret not in done.out + done.err
    assert yaml.safe_load(project.recipe.read_text())["data"]["sources"] == [source]
