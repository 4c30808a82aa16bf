"""The model card: Hugging Face's own loader reads it, it describes the run, and no label breaks it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from evertune.config import Recipe
from evertune.data.corpus import transactions as corpus
from evertune.models import base as base_models
from evertune.records import Outcome, Snapshot, to_plain
from evertune.report import write_card
from evertune.runs import provenance
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from tests.helpers.model import recipe
from tests.helpers.report import DETAILS, ORIGIN, OUTCOME, Json, details_of

PROMOTED = Outcome(**OUTCOME)


@pytest.fixture
def load_card(tmp_path: Path) -> Any:
    def write_and_load(outcome: Outcome = PROMOTED, details: Json = DETAILS, **origin: Any) -> ModelCard:
        path = write_card(tmp_path / "README.md", recipe(tmp_path), to_plain(outcome), details, {**ORIGIN, **origin})
        return ModelCard.load(path)

    return write_and_load


def test_hugging_face_reads_name_task_languages_and_every_metric(load_card: Any) -> None:
    data = load_card().data
    assert (data.model_name, data.pipeline_tag, data.language) == ("support", "text-classification", ["en"])
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    assert values == DETAILS["challenger"]["metrics"]["test"]
    assert {(result.dataset_split, result.dataset_revision) for result in data.eval_results} == {("test", "a2f7")}
    assert data.base_model is None
    hub = {**ORIGIN["base_model"], "name": "org/model", "hub": True}
    assert load_card(base_model=hub).data.base_model == "org/model"


def test_the_card_states_data_metrics_limits_use_and_decision(load_card: Any) -> None:
    text = load_card().text
    value, low, high = DETAILS["challenger"]["intervals"]["accuracy"]
    for part in (
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
        assert part in text, part
    assert "where is my parcel" not in text


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"waiting": True, "decision": "held"}, "evertune approve"),
        ({"decision": "held"}, "the evidence is insufficient"),
        ({"decision": "rejected", "version": None}, 'load_model("runs:/0a6f/model")'),
    ],
)
def test_a_model_that_is_not_in_use_says_so(load_card: Any, changes: Json, part: str) -> None:
    text = load_card(replace(PROMOTED, **changes)).text
    assert part in text and "became the champion" not in text


def test_no_label_and_no_source_breaks_the_card(load_card: Any) -> None:
    names = ["a | b", "---\nlicense: mit", "<script>", "ok"]
    details = {
        **details_of(names),
        "slices": {f"label={name}": {"rows": 3, "challenger": None, "champion": None} for name in names},
    }
    card = load_card(details=details, labels=names)
    assert card.data.model_name == "support" and "license" not in card.data.to_dict()
    assert "<script>" not in card.text
    cells = {line.count("|") for line in card.text.splitlines() if line.startswith("| label=")}
    assert cells == {6}


def test_a_model_that_could_not_be_scored_has_a_card_without_results(load_card: Any) -> None:
    card = load_card(details={}, dates={}, sources=[])
    assert card.data.eval_results is None and "## Metrics" in card.text


def test_a_model_that_chooses_no_label_says_nothing_of_labels(load_card: Any) -> None:
    text = load_card(labels=[]).text
    assert "## Limits" in text and "never answers with another" not in text


def test_origins_count_the_rows_of_each_source_and_name_what_was_read(
    taken: tuple[Recipe, Home], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, home = taken
    loaded = loaded.model_copy(update={"base_model": str(tiny_model)})
    monkeypatch.setattr(
        "evertune.registry.versions.versions.read_run_origin", lambda *_: {"code": "3d10", "environment": {}}
    )
    monkeypatch.setattr(provenance, "SHOWN", 1)
    version = corpus.newest_version(home)
    origin = provenance.describe_origin(RunContext(loaded, home), Snapshot(version, "f", {}, ("a",), 1), "r")
    assert [(source["source"], source["rows"]) for source in origin["sources"]] == [("a.csv", 20)]
    assert origin["sources"][0]["digest"] and origin["others"] == {"sources": 0, "rows": 0}
    assert origin["base_model"]["name"] == tiny_model.name and str(tiny_model.parent) not in str(origin)


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
    base = base_models.describe_base(recipe(tmp_path / "base"))
    assert (base["license"], base["languages"]) == (license, ["de"] if license else [])
