"""Of no objective does the report, the parity sample or an input example show a forgotten row; all others stay."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from markupsafe import escape

from evertune import objectives
from evertune.audit.forgetting import forget as forgetting
from evertune.data import thumbnails
from evertune.evaluation import evaluate as evaluation
from evertune.evaluation import excerpts
from evertune.registry.versions import lineage
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home
from tests.helpers.data import ingest, write_jsonl
from tests.helpers.data import make_recipe as recipe
from tests.helpers.objective_samples import SAMPLES
from tests.helpers.report import write_report_without_pictures

COUNT = 8
SECRET = {
    "string": "ada lovelace wrote of her engine and its punched cards to turing",
    "strings": "lovelace turing engine".split(),
}


@pytest.fixture(params=objectives.TABLE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rows_of(name: str) -> list[dict[str, Any]]:
    """Rows that teach the objective; to each text of the first one, something is added that nobody else wrote."""
    objective = objectives.load_objective(name)
    rows = SAMPLES[name]["rows"](COUNT)
    for role, kind in objective.COLUMNS.items():
        if kind in SECRET and not (objective.LABELED and role == objective.TARGET):
            more = SECRET[kind]
            rows[0][role] = [*rows[0][role], *more] if isinstance(more, list) else f"{rows[0][role]} {more}"
    if objective.TARGET == "tags":
        rows[0]["tags"] += ["B-PER"] * len(SECRET["strings"])
    return [{**row, "id": f"r{place}"} for place, row in enumerate(rows)]


def show(home: Home, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the steps of a run leave behind of these rows, as test rows; the models say what is true, and never it."""
    objective = objectives.load_objective(name)
    inputs = [tuple(row[role] for role in objective.INPUTS) for row in rows]
    inputs = [one[0] for one in inputs] if len(objective.INPUTS) == 1 else inputs
    targets = [
        str(row[objective.TARGET]) if isinstance(row[objective.TARGET], float) else row[objective.TARGET]
        for row in rows
    ]
    true = [_said(objective, one, [one]) for one in targets]
    if objective.TARGET == "tags":  # the commonest tag alone is never right
        true = [{**said, "tags": one} for said, one in zip(true, targets, strict=True)]
    others = [
        one if objective.TARGET == "tags" else next(other for other in targets[1:] if other != one) for one in targets
    ]
    never = [_said(objective, *pair) for pair in zip(targets, ([other] for other in others), strict=True)]
    said = {"challenger": never, "champion": true}
    judged: dict[str, Any] = {"metrics": {}} | ({"per_tag": {}} if objective.TARGET == "tags" else {})
    details = {
        "challenger": judged,
        "champion": judged,
        "changed": evaluation._list_changed_rows(objective, inputs, targets, said),
        "samples": excerpts.select_excerpts(objective, inputs, targets, said),
        "gallery": thumbnails.build_gallery(objective, inputs, targets, said),
    }
    folder = home.runs / "r1"
    write_json(folder / "details.json", details)
    (folder / "report").mkdir()
    write_report_without_pictures(folder / "report", details=details)
    predictor = SimpleNamespace(objective=objective, predict=lambda given: never[: len(given)])
    evaluation._write_sample(folder / "parity.json", objective, predictor, inputs, never)
    example = home.root / "mlflow" / "artifacts" / "input_example.json"
    write_json(
        example,
        {"columns": list(objective.INPUTS), "data": [one if isinstance(one, tuple) else [one] for one in inputs[:3]]},
    )
    return details


def _said(objective: Any, true: Any, given: list[Any]) -> dict[str, Any]:
    (said,) = objective.predict_majority(given)
    if objective.TARGET in objective.INPUTS and isinstance(true, str):  # a prompt is the text's tokens, written
        return {**said, "prompt": f"[UNK] {true[6:19]}", "continuation": true[-6:]}
    return dict(said)


def test_what_a_run_shows_of_a_forgotten_row_goes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "list_trained_versions", lambda *_: [])
    monkeypatch.setattr(lineage, "find_external_store", lambda *_: None)
    rows = rows_of(name)
    home = Home(tmp_path / "home", "kept-rows")
    write_jsonl(tmp_path / "rows.jsonl", rows)
    one = recipe(
        tmp_path,
        objective={"type": name, **SAMPLES[name].get("options", {})},
        data={"sources": [{"path": "rows.jsonl"}], "columns": {"id": "id"}},
    )
    assert ingest(one, home).rows == COUNT
    before = show(home, name, rows)
    assert forgetting.forget_rows(RunContext(one, home), {"id": ["r0"]}, "a letter").rows["batches"] == 1

    pictures = [rows[0][role] for role, kind in objectives.load_objective(name).COLUMNS.items() if kind == "image"]
    hidden = ["lovelace", "turing", "punched", *pictures, *map(thumbnails.make_thumbnail, pictures)]
    for path in (file for file in home.root.rglob("*") if file.is_file() and file.suffix != ".parquet"):
        content = path.read_text(errors="replace")
        assert not [told for told in hidden if told in content], path
    sample = read_json(home.runs / "r1" / "parity.json")
    details = read_json(home.runs / "r1" / "details.json")
    assert len(sample["inputs"]) == len(sample["predictions"]) == COUNT - 1
    for kind in ("changed", "samples", "gallery"):
        assert details[kind] == json.loads(json.dumps(before[kind][1:])), kind
    page = (home.runs / "r1" / "report" / "report.html").read_text()
    assert "forgotten since" not in page
    assert all(escape(row["input"]) in page for row in before["changed"][1:] + before["samples"][1:])
