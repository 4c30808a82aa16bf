"""From a registered version back to its rows, its recipe, and who promoted it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import Project, ticket_rows, write_rows


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_server: str) -> Iterator[Project]:
    """A project with a champion, whose corpus has grown since."""
    made = Project(tmp_path_factory.mktemp("traced"), tiny_model, prefect_server).write()
    write_rows(made.folder / "rows" / "a.csv", ticket_rows(120))
    write_rows(made.folder / "rows" / "b.csv", ticket_rows(60, start=120))
    assert made.run().json["decision"] == "promoted"
    write_rows(made.folder / "rows" / "c.csv", ticket_rows(40, start=400))
    assert made.run("--set", "training.epochs=0.2").status == 0
    yield made


def test_a_version_names_its_rows_recipe_code_and_who_promoted_it(project: Project) -> None:
    done = project.evertune("trace", str(project.recipe), "--version", "1", "--json")
    assert done.status == 0, done.err
    found = done.json
    assert found["model"]["aliases"] == ["champion"]
    assert found["recipe"]["training"]["epochs"] == 8
    assert {"torch", "transformers", "mlflow"} <= set(found["environment"]["libraries"])
    rows = found["rows"]
    assert rows["unchanged"] and sum(rows["splits"].values()) == 180
    assert [(one["source"].rpartition("/")[2], one["rows"]) for one in rows["sources"]] == [
        ("a.csv", 120),
        ("b.csv", 60),
    ]
    [decision] = found["decisions"]
    assert decision["verdict"] == "promoted" and decision["evidence"]
    [move] = found["moves"]
    assert (move["from"], move["to"], move["who"]) == (None, 1, decision["who"])


def test_the_same_for_a_person_and_the_champion_by_default(project: Project) -> None:
    done = project.evertune("trace", str(project.recipe))
    assert done.status == 0, done.err
    for words in ("version 1 (champion)", "its rows are still those", "champion: version", "evidence"):
        assert words in " ".join(done.out.split())
    second = project.evertune("trace", str(project.recipe), "--version", "2", "--json").json
    assert len(second["rows"]["sources"]) == 3 and second["moves"] == []


def test_rows_that_are_not_those_any_more_are_said(project: Project) -> None:
    """A file of the table is gone, as after a clean-up by hand."""
    files = sorted((project.home.corpus).glob("*.parquet"))
    moved = [(file, file.with_suffix(".away")) for file in files]
    for file, away in moved:
        file.rename(away)
    try:
        done = project.evertune("trace", str(project.recipe), "--version", "1")
    finally:
        for file, away in moved:
            away.rename(file)
    assert done.status == 0, done.err
    assert "snapshot 1 cannot be read" in " ".join(done.out.split())


def test_a_version_that_is_not_there_is_a_registry_error(project: Project) -> None:
    done = project.evertune("trace", str(project.recipe), "--version", "9")
    assert done.status == 5 and "version 9 of tickets" in done.err
