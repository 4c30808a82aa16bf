"""The model card: Hugging Face's own loader reads it, it tells how things stand, and no label breaks it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from evertune.config import Recipe
from evertune.data.corpus import transactions as corpus
from evertune.models import base as base_models
from evertune.records import Outcome, Snapshot, to_plain
from evertune.report import model_card as card
from evertune.runs import provenance as origins
from evertune.runtime.home import Home
from tests.helpers.model import recipe
from tests.helpers.report import DETAILS, ORIGIN, OUTCOME, Json, details_of

FOUND = Outcome(**OUTCOME)


@pytest.fixture
def made(tmp_path: Path) -> Any:
    def make(outcome: Outcome = FOUND, details: Json = DETAILS, **origin: Any) -> ModelCard:
        path = card(tmp_path / "README.md", recipe(tmp_path), to_plain(outcome), details, {**ORIGIN, **origin})
        return ModelCard.load(path)

    return make


def test_hugging_face_reads_name_task_languages_and_every_metric(made: Any) -> None:
    data = made().data
    assert (data.model_name, data.pipeline_tag, data.language) == ("support", "text-classification", ["en"])
    values = {one.metric_type: one.metric_value for one in data.eval_results}
    assert values == DETAILS["challenger"]["metrics"]["test"]
    assert {(one.dataset_split, one.dataset_revision) for one in data.eval_results} == {("test", "a2f7")}
    assert data.base_model is None
    hub = {**ORIGIN["base_model"], "name": "org/model", "hub": True}
    assert made(base_model=hub).data.base_model == "org/model"


def test_the_card_tells_data_metrics_limits_use_and_decision(made: Any) -> None:
    text = made().text
    value, low, high = DETAILS["challenger"]["intervals"]["accuracy"]
    for said in (
        "| train | 980 | 2026-01-05 | 2026-03-08 |",
        "| tickets/9.csv | 439 |",
        "1,200 more rows are from 3 older sources",
        "24 refused: text: too short (24)",
        f"| accuracy | {value:.4f} | {low:.4f} to {high:.4f} |",
        "label=refund | 20",
        "`a`, `b`",
        "licence apache-2.0",
        'load_model("models:/support/4")',
        "evertune score",
        "evertune monitor",
        "**promoted**: better by 3.1 points",
        "| superior | fresh | yes | 312 | 0.0312 (at least 0.0100) |",
        "`3d10`",
    ):
        assert said in text, said
    assert "where is my parcel" not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"waiting": True, "decision": "held"}, "evertune approve"),
        ({"decision": "held"}, "evidence for it is missing"),
        ({"decision": "rejected", "version": None}, 'load_model("runs:/0a6f/model")'),
    ],
)
def test_a_model_that_is_not_in_use_says_so(made: Any, changes: Json, said: str) -> None:
    text = made(replace(FOUND, **changes)).text
    assert said in text and "became the champion" not in text


def test_no_label_and_no_source_breaks_the_card(made: Any) -> None:
    names = ["a | b", "---\nlicense: mit", "<script>", "ok"]
    details = {
        **details_of(names),
        "slices": {f"label={one}": {"rows": 3, "challenger": None, "champion": None} for one in names},
    }
    found = made(details=details, labels=names)
    assert found.data.model_name == "support" and "license" not in found.data.to_dict()
    assert "<script>" not in found.text
    cells = {line.count("|") for line in found.text.splitlines() if line.startswith("| label=")}
    assert cells == {6}


def test_a_model_that_could_not_be_scored_has_a_card_without_results(made: Any) -> None:
    found = made(details={}, dates={}, sources=[])
    assert found.data.eval_results is None and "## Metrics" in found.text


def test_a_model_that_chooses_no_label_says_nothing_of_labels(made: Any) -> None:
    text = made(labels=[]).text
    assert "## Limits" in text and "never says another" not in text


def test_origins_count_the_rows_of_each_source_and_name_what_was_read(
    taken: tuple[Recipe, Home], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, home = taken
    one = one.model_copy(update={"base_model": str(tiny_model)})
    monkeypatch.setattr(
        "evertune.registry.versions.versions.read_run_origin", lambda *_: {"code": "3d10", "environment": {}}
    )
    monkeypatch.setattr(origins, "SHOWN", 1)
    version = corpus.newest_version(home)
    told = origins.describe_origin(one, home, Snapshot(version, "f", {}, ("a",), 1), "r")
    assert [(one["source"], one["rows"]) for one in told["sources"]] == [("a.csv", 20)]
    assert told["sources"][0]["digest"] and told["others"] == {"sources": 0, "rows": 0}
    assert told["base_model"]["name"] == tiny_model.name and str(tiny_model.parent) not in str(told)


@pytest.mark.parametrize(
    ("content", "license"),
    [("---\nlicense: mit\nlanguage: de\n---\n", "mit"), ("---\nlicense: [\n---\n", None), ("no metadata", None)],
)
def test_the_licence_of_a_base_model_is_what_its_own_card_states(
    tmp_path: Path, content: str, license: str | None
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "base" / "README.md").write_text(content)
    told = base_models.describe_base(recipe(tmp_path / "base"))
    assert (told["license"], told["languages"]) == (license, ["de"] if license else [])
