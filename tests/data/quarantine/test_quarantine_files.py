"""Refused rows written to a file, mended there and read back."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from evertune.cli.quarantine import quarantine as command
from evertune.config import Recipe
from evertune.data.quarantine import release as quarantine
from evertune.data.quarantine.release import read_mended
from evertune.errors import ConfigError, DataError
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from tests.helpers.data import TOKENS, TOLERANT, current, make_home, make_recipe, run, write_jsonl


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_export_and_back(taken: tuple[Recipe, Home], tmp_path: Path, ending: str) -> None:
    recipe, home = taken
    path = tmp_path / f"refused.{ending}"
    assert quarantine.export_refused(home, path) == 4
    path.write_text(
        path.read_text(encoding="utf-8").replace("crad", "card").replace("caf\u00c3\u00a9", "caf\u00e9"),
        encoding="utf-8",
    )
    release = quarantine.release_file(RunContext(recipe, home), path)
    assert (release.released, release.kept) == (2, 2)
    assert [row["label"] for row in current(home) if row["text"] == "it was caf\u00e9 ole"] == ["card"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_lists_and_moments_survive_the_file(tmp_path: Path, ending: str) -> None:
    columns = {"id": "id", "timestamp": "at"}
    recipe = make_recipe(
        tmp_path, objective=TOKENS, data={"sources": [{"path": "*.json"}], "columns": columns}, **TOLERANT
    )
    home = make_home(tmp_path)
    rows = [
        {"id": str(n), "at": "2026-05-01T10:00:00.250+02:00", "tokens": ["Rome", f'"n{n}, x'], "tags": ["B-LOC", "O"]}
        for n in range(20)
    ]
    bad_row = {**rows[0], "id": "x", "tags": ["B-LOC", "P", "O"]}
    write_jsonl(tmp_path / "a.json", [*rows, bad_row, {**rows[0], "id": "y", "at": "one day"}])
    run(recipe, home)
    path = tmp_path / f"refused.{ending}"
    quarantine.export_refused(home, path)
    text = path.read_text(encoding="utf-8")
    mended_text = text.replace("one day", "2026-05-02").replace('""P"", ', "").replace('"P", ', "")
    path.write_text(mended_text, encoding="utf-8")
    assert quarantine.release_rows(RunContext(recipe, home), read_mended(path, recipe)).released == 2
    rows_by_id = {row["id"]: row for row in current(home)}
    assert (rows_by_id["x"]["tokens"], rows_by_id["x"]["tags"]) == (rows[0]["tokens"], ["B-LOC", "O"])
    assert rows_by_id["x"]["timestamp"] == rows_by_id["0"]["timestamp"]
    assert rows_by_id["y"]["timestamp"].isoformat() == "2026-05-02T00:00:00+00:00"


def test_the_command_says_what_became_of_the_rows(
    taken: tuple[Recipe, Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(taken[1].root))
    file = tmp_path / "refused.csv"
    path = str(taken[0].folder / "recipe.yaml")

    def read_output(*arguments: str) -> list[str]:
        result = CliRunner().invoke(command, [path, *arguments], catch_exceptions=False)
        return [" ".join(line.split()) for line in result.output.splitlines()]

    summary, *reasons = read_output("--release")
    assert summary == "0 rows released, 4 still refused"
    assert reasons == ["2 two labels for one input", "1 encoding damage", "1 unknown label"]
    read_output("--export", str(file))
    file.write_text(file.read_text(encoding="utf-8").replace("crad", "card"), encoding="utf-8")
    summary = read_output("--from", str(file))[0]
    assert summary.startswith("1 row released, 3 still refused; the next `evertune run ")


def test_a_release_does_not_export(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["recipe.yaml", "--release", "--export", str(tmp_path / "rows.csv")])
    assert isinstance(result.exception, ConfigError)
    assert "--export and --release exclude each other" in str(result.exception)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"row_version": "ffff", "label": "card"}\n{"label": "card"}\n', "mended.jsonl, row 1: no row_version"),
        ('{"row_version": "ffff"}\n{"row_version": 7}\n', "row 1: no row_version"),
        ('{"row_version": "ffff"}\n[]\n', "mended.jsonl: row 1 is not a JSON object"),
    ],
)
def test_a_mended_row_without_its_version_is_named(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "mended.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=expected):
        read_mended(path, make_recipe(tmp_path))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,label\nhi,card\n", "no column row_version"),
        ("row_version,label\nffff,card\n", "row_version ffff is not a refused row"),
        ("row_version,label\nffff,card\nffff,card\n", "occurs more than once"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    taken: tuple[Recipe, Home], tmp_path: Path, content: str, expected: str
) -> None:
    recipe, home = taken
    path = tmp_path / "mended.csv.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=expected):
        quarantine.release_rows(RunContext(recipe, home), read_mended(path, recipe))
    with pytest.raises(DataError, match="nowhere"):
        read_mended(tmp_path / "nowhere.csv", recipe)
