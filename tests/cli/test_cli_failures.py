"""Data and models that cannot be used, from the command line: the documented status, a line that helps, no secret."""

import json
import shutil
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evertune.runtime.context import RunContext
from tests.helpers.cli import Done, Project, ticket_rows, write_rows

Command = Callable[..., Done]


def write_data(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "rows.csv").write_bytes(content.encode() if isinstance(content, str) else content)


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
    evertune: Command,
    tiny_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    words: str,
    command: str,
) -> None:
    path = tiny_recipe()
    (tmp_path / "rows.csv").unlink()
    if content is not None:
        write_data(tmp_path, content)
    if command == "run":
        monkeypatch.setattr("evertune.cli.flow_runs._run_retrain_flow", _without_prefect)
    done = evertune(command, path)
    assert (done.status, done.out) == (3, "")
    assert words in done.err
    assert "Traceback" not in done.err


def _without_prefect(recipe: Any, *_: Any) -> None:
    from evertune.data import admission
    from evertune.data.corpus import transactions as corpus
    from evertune.data.sources import read as sources
    from evertune.runtime.home import home_of

    home = home_of(recipe)
    admission.admit_batch(
        corpus.ingest_rows(RunContext(recipe, home), lambda seen: sources.read_sources(recipe, seen)),
        RunContext(recipe, home),
    )


@pytest.mark.parametrize(
    ("rows", "changes", "words"),
    [
        ([(text, "card") for text, _ in ticket_rows(30)], {}, "label"),
        ([*ticket_rows(30), ("only one of these", "lonely")], {"tolerance": 0.0}, "lonely"),
        (ticket_rows(30), {"label": {"values": ["refund", "delivery"]}}, "account"),
        ([(text + "\x07" * (at < 12), label) for at, (text, label) in enumerate(ticket_rows(120))], {}, "10.0%"),
        ([("", label) for _, label in ticket_rows(30)], {}, "30 of 30 rows (100.0%)"),
    ],
    ids=["one label only", "a label with one row", "more labels than listed", "control characters", "nothing accepted"],
)
def test_rows_that_do_not_make_a_model_end_with_status_3_and_check_says_so_before(
    evertune: Command,
    tiny_recipe: Callable[..., Path],
    tmp_path: Path,
    rows: Any,
    changes: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tiny_recipe(contract=changes)
    write_rows(tmp_path / "rows.csv", rows)
    monkeypatch.setattr("evertune.cli.flow_runs._run_retrain_flow", _without_prefect)
    checked = evertune("check", path)
    assert (checked.status, "the rows are not" in checked.out) == (3, True)
    assert "`evertune run` would stop:\n" in checked.err
    done = evertune("run", path, "--json")
    assert (done.status, done.out) == (3, "")
    assert words in done.err
    for problem in checked.err.splitlines()[1:]:
        assert problem in done.err
    found = evertune("check", path, "--json")
    assert found.status == 3 and all(problem in found.err for problem in found.json["problems"])


@pytest.mark.slow
def test_a_run_without_test_rows_stops_before_it_trains(project: Project) -> None:
    project.write(data={"sources": [{"path": "rows/*.csv"}], "split": {"validation": 0, "test": 0}})
    for changes in ([], ["--set", "data.split.test=0.3"]):
        done = project.run(*changes)
        assert (done.status, done.out) == (3, "")
        assert "none of the 150 accepted rows is a test row" in done.err
        assert "change the recipe's name as well" in done.err
        assert not list(project.home.runs.glob("*"))
    project.write(name="tickets-2", data={"sources": [{"path": "rows/*.csv"}], "split": {"test": 0.3}})
    assert project.run().status == 0


@pytest.mark.slow
def test_a_model_that_cannot_be_built_ends_with_status_4(project: Project, tiny_model: Path) -> None:
    broken = shutil.copytree(tiny_model, project.folder / "broken")
    stated = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**stated, "num_attention_heads": 5}))  # of 32 units
    done = project.run("--set", f"base_model={broken}")
    assert (done.status, done.out) == (4, "")
    assert "base_model" in done.err
    assert "Traceback" not in done.err


def test_a_secret_in_a_failing_source_is_not_shown(
    evertune: Command, tiny_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hu/sh@17")
    url = "postgresql+nodriver://me:${DB_PASSWORD}@127.0.0.1:9/shop"
    path = tiny_recipe(data={"sources": [{"url": url, "sql": "select 1"}]})
    for command in (["check", path], ["check", path, "--set", "data.sources.0.url=nonsense:${DB_PASSWORD}"]):
        done = evertune(*command)
        assert done.status == 3
        assert not any(part in done.err for part in ("hu/sh@17", "hush", "hu%2Fsh", "sh@17"))


@pytest.mark.slow
def test_a_secret_is_kept_nowhere(project: Project) -> None:
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
