"""A look for drift and a trace: which rows are compared, what is said, and the commands over a champion."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evertune.audit import trace as tracing
from evertune.config import load_recipe
from evertune.errors import RegistryError
from evertune.monitoring import monitor as monitoring
from evertune.monitoring import observations as observing
from evertune.monitoring.monitor import Side
from evertune.runtime.context import RunContext
from evertune.serving import bundle
from tests.helpers.cli import Project, ticket_rows, write_rows
from tests.helpers.fork_server import ForkServer
from tests.helpers.model import LABELS, TAGS, TOKENS, recipe, split_rows, table, tag_rows, text_rows, train
from tests.helpers.notify import Sink, http_sink, secrets_in, smtp_sink


@pytest.fixture(scope="module")
def champion(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = recipe(tiny_model, training={"epochs": 8, "learning_rate": 1e-2})
    return Path(train(one, tmp_path_factory.mktemp("champion"), split_rows(text_rows(60))).bundle)


def side(rows: list[dict[str, Any]], labelled: bool = True) -> Side:
    return Side("here", [row["text"] for row in rows], [row["label"] for row in rows] if labelled else None)


def mixed(rows: list[Any]) -> list[Any]:
    """The same rows in another order, so that the first of them are of one kind with the rest."""
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]


def test_what_is_observed_is_what_the_model_says_of_each_row(tiny_model: Path, champion: Path) -> None:
    one = recipe(tiny_model)
    predictor = bundle.load_predictor(champion)
    rows = text_rows(30, start=700)
    inputs = [row["text"] for row in rows]
    targets = [row["label"] for row in rows]
    seen = observing.observe_rows(predictor, one, inputs, targets, np.arange(30) // 2)
    said = predictor.predict(inputs)
    assert seen.predicted is not None and seen.scores is not None and seen.wrong is not None
    assert seen.predicted.tolist() == [one["label"] for one in said]
    np.testing.assert_allclose(seen.scores, [one["score"] for one in said])
    assert seen.wrong.tolist() == [one["label"] != target for one, target in zip(said, targets, strict=True)]
    assert seen.tokens is not None and seen.lengths is not None and seen.embeddings is not None
    assert [len(one) for one in seen.tokens] == seen.lengths.tolist()
    assert seen.embeddings.shape == (30, predictor.model.config.hidden_size)
    alone = observing.observe_rows(predictor, one, inputs[3:4], None)
    np.testing.assert_allclose(alone.embeddings[0], seen.embeddings[3], atol=1e-5)  # type: ignore[index]
    assert alone.wrong is None


def test_of_many_rows_the_same_draw_is_looked_at(
    tiny_model: Path, champion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recipe(tiny_model)
    monkeypatch.setattr(observing, "MOST", 10)
    predictor = bundle.load_predictor(champion)
    rows = text_rows(40)
    inputs = [row["text"] for row in rows]
    targets = [row["label"] for row in rows]
    first, second = (observing.observe_rows(predictor, one, inputs, targets, np.arange(40)) for _ in range(2))
    assert len(first) == 10
    assert first.groups is not None and second.groups is not None
    assert first.groups.tolist() == second.groups.tolist() == sorted(first.groups.tolist())


def test_tags_are_observed_too(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model, TOKENS, training={"epochs": 2})
    predictor = bundle.load_predictor(Path(train(one, tmp_path, split_rows(tag_rows(30)), TAGS).bundle))
    rows = tag_rows(8)
    seen = observing.observe_rows(predictor, one, [row["tokens"] for row in rows], [row["tags"] for row in rows])
    assert seen.predicted is not None and set(seen.predicted.tolist()) <= {*TAGS}
    assert seen.scores is not None and ((seen.scores > 0) & (seen.scores <= 1)).all()


def test_rows_of_the_same_kind_are_no_drift_and_others_are_said_to_be(tiny_model: Path, champion: Path) -> None:
    one = recipe(tiny_model)
    rows = mixed(text_rows(240, start=1000))
    before = side(rows[:150])
    same = monitoring.compare_sides(one, champion, 3, before, side(rows[150:]))
    assert (same.found.drifted, same.found.version, same.found.rows) == (False, 3, {"reference": 150, "current": 90})
    assert same.found.reason.endswith("threshold 0.05)")
    long = [{**row, "text": row["text"] + " the" * 9} for row in text_rows(90, LABELS[:1], start=1000)]
    other = monitoring.compare_sides(one, champion, 3, before, side(long, labelled=False)).found
    told = {one["test"]: one["words"] for one in other.findings if one["found"]}
    assert other.drifted and {"length", "prediction"} <= set(told)
    assert "tokens on average" in told["length"] and "to 100%" in told["prediction"]
    assert "performance" not in {one["test"] for one in other.findings}
    assert "length (" in other.reason


def test_a_run_compares_its_test_rows_before_and_since_the_champion(
    tiny_model: Path, champion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recipe(tiny_model, monitor={"min_rows": 40})
    old = [{**row, "batch": 1} for row in mixed(text_rows(90, start=1000))]
    new = [{**row, "text": row["text"] + " the" * 9, "batch": 2} for row in text_rows(45, start=2000)]
    rows = table(old + new, "test")
    monkeypatch.setattr(monitoring, "RUN_ROWS", 60)
    found = monitoring.compare_run_rows(one, champion, 3, rows, since=1)
    assert found is not None and found.drifted and found.rows == {"reference": 60, "current": 45}
    assert {"length", "performance"} <= {finding["test"] for finding in found.findings}
    assert monitoring.compare_run_rows(one, champion, 3, rows.slice(0, 129), since=1) is None


def test_few_rows_tell_nothing(tiny_model: Path, champion: Path) -> None:
    found = monitoring.compare_sides(recipe(tiny_model), champion, 3, side(text_rows(40)), side(text_rows(29))).found
    assert (found.drifted, found.p) == (False, None)
    assert found.reason == "too few rows: 29 new rows and 40 test rows (minimum on either side: 30)"


def test_the_level_keeps_the_rate_over_many_checks(tiny_model: Path) -> None:
    one = recipe(tiny_model, monitor={"false_alarms": 0.05, "checks": 52}).monitor
    assert 1 - (1 - one.level) ** 52 == pytest.approx(0.05)


def test_at_the_level_of_a_year_of_checks_drift_can_still_be_told(tiny_model: Path, champion: Path) -> None:
    one = recipe(tiny_model, monitor={"checks": 52})
    long = [{**row, "text": row["text"] + " the" * 9} for row in text_rows(60, LABELS[:1], start=1000)]
    found = monitoring.compare_sides(one, champion, 3, side(text_rows(60, start=1000)), side(long)).found
    assert found.drifted and found.p is not None and found.p <= found.level < 0.001


@pytest.fixture(scope="module")
def people() -> Iterator[list[Sink]]:
    """A webhook and a mailbox."""
    with http_sink() as web, smtp_sink() as mail:
        yield [web, mail]


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    prefect_server: str,
    model_store: Path,
    commands: ForkServer,
    people: list[Sink],
) -> Iterator[Project]:
    """A project with a champion, of which people were told."""
    made = Project(tmp_path_factory.mktemp("project"), tiny_model, prefect_server, commands)
    shutil.copytree(model_store.with_name("empty"), made.folder / "home")
    made.environment = {"OPS_WEB": people[0].address, "OPS_MAIL": people[1].address}
    made.write(monitor={"min_rows": 20}, notify={"targets": ["${OPS_WEB}", "${OPS_MAIL}"], "timeout": 60})
    write_rows(made.folder / "rows" / "a.csv", mixed(ticket_rows(340))[:240])
    done = made.run()
    assert done.json["decision"] == "promoted", done.err
    assert [one.titles for one in people] == [["tickets: version 1 is promoted"]] * 2
    assert secrets_in(done.out, done.err) == []
    yield made


def test_the_command_tells_of_drift_in_a_file_and_records_it(project: Project, people: list[Sink]) -> None:
    same = write_rows(project.folder / "same.csv", mixed(ticket_rows(340))[240:])
    other = write_rows(project.folder / "other.csv", [(f"{text} " * 3, "refund") for text, _ in ticket_rows(90)])
    found = {}
    for name, path in (("same", same), ("other", other)):
        done = project.evertune("monitor", str(project.recipe), "--input", str(path), "--json")
        assert done.status == 0, done.err
        found[name] = done.json
        assert done.json["reason"] in " ".join(done.err.split())
        assert secrets_in(done.out, done.err) == []
    assert (found["same"]["drifted"], found["other"]["drifted"]) == (False, True)
    assert [one.titles[1:] for one in people] == [["tickets: drift since version 1"]] * 2
    assert all(found["other"]["reason"] in one.bodies[1] for one in people[:1])
    page = Path(found["other"]["report"]).read_text()
    assert "data:image/png" in page and "length" in page and "<script" not in page
    from evertune.registry.tracking.store import open_client

    run = open_client(project.home).get_run(found["other"]["run_id"])
    assert run.data.tags["evertune.monitor"] == "drift"
    assert run.data.metrics["p"] == pytest.approx(found["other"]["p"])


def test_a_night_without_news_tells_nobody_and_no_file_holds_an_address(
    project: Project, people: list[Sink], tmp_path_factory: pytest.TempPathFactory
) -> None:
    told = [len(one.titles) for one in people]
    assert project.run().json["decision"] == "unchanged"
    assert [len(one.titles) for one in people] == told
    of_prefect = tmp_path_factory.getbasetemp().glob("prefect*/prefect.db*")
    files = [file for file in [*project.folder.rglob("*"), *of_prefect] if file.is_file()]
    assert len(files) > 50
    assert [file for file in files if secrets_in(file.read_bytes())] == []


def test_without_a_file_the_rows_since_the_champion_are_looked_at(project: Project) -> None:
    """They are taken in first; and so many are a reason to retrain where the recipe says so."""
    added = write_rows(project.folder / "rows" / "b.csv", ticket_rows(9, start=600))
    done = project.evertune(
        "monitor", str(project.recipe), "--json", "--set", "triggers.new_labels=9", "--set", "triggers.cooldown=0"
    )
    assert (done.status, done.json["p"], done.json["rows"]["current"]) == (0, None, 9), done.err
    assert "too few rows" in done.err and "left out" not in done.err
    [one] = done.json["triggers"]
    assert (one["name"], one["starts"]) == ("new_labels", True)
    assert "trigger    new_labels, retrain: 9 labelled rows since the champion (minimum: 9)" in done.err
    added.unlink()


@pytest.fixture
def sent(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The events of the flow in this process, which knows the project's home and server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import monitor

    events: list[Any] = []
    monkeypatch.setenv("EVERTUNE_HOME", str(project.home.root))
    monkeypatch.setattr(monitor, "emit_event", lambda name, resource, payload: events.append((name, resource, payload)))
    with temporary_settings({PREFECT_API_URL: project.server}):
        yield events


def test_drift_is_an_event_that_prefect_hears_of_and_asks_for_a_retraining(project: Project, sent: list[Any]) -> None:
    from flows import monitor

    new = [(f"{text} {'the ' * 9}", label) for text, label in ticket_rows(60, start=2000)]
    added = write_rows(project.folder / "rows" / "c.csv", new)
    found = monitor.monitor(load_recipe(project.recipe, ["triggers.cooldown=0"]))
    again = monitor.monitor(str(project.recipe))
    added.unlink()
    assert [one[0] for one in sent] == ["evertune.drift", "evertune.retrain", "evertune.drift", "evertune.trigger-held"]
    assert sent[1][2] == {"trigger": "drift", "reason": found.reason, "version": 1}
    held = again.triggers[0].held
    assert held == sent[3][2]["held"] and "cooldown: 24.0 of 24 hours left" in str(held)
    entries = [(one["starts"], one["held"]) for one in project.entries("trigger")[-2:]]
    assert entries == [(True, None), (False, held)]
    name, resource, payload = sent[0]
    assert (name, resource["prefect.resource.id"]) == ("evertune.drift", "evertune.model.tickets")
    assert json.loads(json.dumps(payload)) == {"reason": found.reason, "p": found.p, "version": found.version}


def test_drift_in_a_file_is_told_and_starts_nothing(project: Project, sent: list[Any]) -> None:
    """A retraining would find none of its rows, and its cooldown would hold back one that is needed."""
    from flows import monitor

    path = write_rows(project.folder / "event.csv", [(f"{text} " * 3, "refund") for text, _ in ticket_rows(60)])
    before = project.entries("trigger")
    found = monitor.monitor(load_recipe(project.recipe, ["triggers.cooldown=0", "triggers.new_labels=1"]), str(path))
    assert (found.drifted, found.triggers, [one[0] for one in sent]) == (True, (), ["evertune.drift"])
    assert project.entries("trigger") == before


def test_without_a_champion_no_row_is_taken_in(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import monitor

    monkeypatch.setattr(monitor, "ingest", lambda _: pytest.fail("rows are taken in"))
    with pytest.raises(RegistryError, match="tiny has no champion yet"):
        monitor.monitor.fn(recipe(tiny_model, folder=tmp_path))
    with pytest.raises(RegistryError, match="tiny has no champion yet"):
        monitor.look.fn(recipe(tiny_model, folder=tmp_path), None, None)


def test_a_version_names_its_rows_recipe_code_and_who_promoted_it(project: Project) -> None:
    done = project.evertune("trace", str(project.recipe), "--version", "1", "--json")
    assert done.status == 0, done.err
    found = done.json
    assert found["model"]["aliases"] == ["challenger", "champion"]
    assert found["recipe"]["training"]["epochs"] == 8
    assert {"torch", "transformers", "mlflow"} <= set(found["environment"]["libraries"])
    rows = found["rows"]
    assert rows["unchanged"] and sum(rows["splits"].values()) == 240
    assert [(one["source"].rpartition("/")[2], one["rows"]) for one in rows["sources"]] == [("a.csv", 240)]
    [decision] = found["decisions"]
    assert decision["verdict"] == "promoted" and decision["evidence"]
    [move] = found["moves"]
    assert (move["from"], move["to"], move["who"]) == (None, 1, decision["who"])


def test_a_trace_for_a_person_of_the_champion_whose_rows_are_gone(project: Project) -> None:
    """The table's files are away, as after a clean-up by hand."""
    moved = [(file, file.with_suffix(".away")) for file in sorted(project.home.corpus.glob("*.parquet"))]
    for file, away in moved:
        file.rename(away)
    try:
        done = project.evertune("trace", str(project.recipe))
    finally:
        for file, away in moved:
            away.rename(file)
    assert done.status == 0, done.err
    for words in ("version 1 (challenger, champion)", "snapshot 1 cannot be read", "champion: version", "evidence"):
        assert words in " ".join(done.out.split())


def test_a_version_that_is_not_there_is_a_registry_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(project.home.root))
    with pytest.raises(RegistryError, match="tickets has no version 9; `evertune history RECIPE` lists them"):
        tracing.trace_version(RunContext(load_recipe(project.recipe), project.home), 9)
