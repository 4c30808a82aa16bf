"""A batch with many wrong labels is noticed, and its rows are listed, refused, or keep the batch out."""

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evertune.config import Recipe
from evertune.data import admission
from evertune.data.contract.judge import BatchStoppedError
from evertune.data.corpus import transactions as corpus
from evertune.data.label_review import KIND, load_reviews
from evertune.data.quarantine import release
from evertune.records import Snapshot
from evertune.runs import doubtful_labels
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from tests.helpers.data import current, ingest, make_home, make_recipe, run, write_csv

WORDS = {"card": ["card", "chip", "pin"], "refund": ["refund", "money", "return"], "parcel": ["parcel", "box", "late"]}
NOISE = 0.4
HEADER = ("id", "text", "label")


class Oracle:
    """A champion that knows the right label."""

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        return [{"label": right_label(text)} for text in inputs]


def right_label(text: str) -> str:
    return next(label for label, words in WORDS.items() if text.split()[0] in words)


def make_rows(count: int, noise: float, seed: int) -> list[tuple[str, str, str]]:
    """Rows whose first word says their label; a share of the labels is wrong."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        label = rng.choice(list(WORDS))
        text = f"{rng.choice(WORDS[label])} {' '.join(rng.choices('abcdefghij', k=6))} n{seed}x{number}"
        wrong = rng.choice([other for other in WORDS if other != label])
        rows.append((f"{seed}-{number}", text, wrong if rng.random() < noise else label))
    return rows


@pytest.fixture
def with_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Recipe, Home]:
    """A recipe and the home of its corpus, with a champion that knows the first batch."""
    recipe = make_recipe(
        tmp_path,
        data={"sources": [{"path": "*.csv"}], "columns": {"id": "id"}, "split": {"test": 0.2, "near_duplicate": 1.0}},
    )
    home = make_home(tmp_path)
    write_csv(tmp_path / "a.csv", make_rows(500, 0.0, 1), HEADER)
    run(recipe, home)
    monkeypatch.setattr(doubtful_labels.versions, "find_champion", lambda *_: 1)
    monkeypatch.setattr(doubtful_labels.versions, "fetch_bundle", lambda *_: tmp_path)
    monkeypatch.setattr(doubtful_labels.bundle, "read_card", lambda _: {"snapshot": {"batch": 1}})
    monkeypatch.setattr(doubtful_labels.bundle, "load_predictor", lambda _: Oracle())
    return recipe, home


def take_in(recipe: Recipe, home: Home, folder: Path, noise: float, policy: str = "report") -> Snapshot:
    """Take in a second batch, reviewed as in the flow."""
    rules = recipe.contract.label.model_copy(update={"noise": policy})
    recipe = recipe.model_copy(update={"contract": recipe.contract.model_copy(update={"label": rules})})
    context = RunContext(recipe, home)
    write_csv(folder / "b.csv", make_rows(200, noise, 2), HEADER)
    batch = ingest(recipe, home)
    review = partial(doubtful_labels.review_labels, context, batch.number)
    return admission.admit_batch(batch, context, review_labels=review)[0]


def count_wrong_labels(rows: list[dict[str, Any]]) -> int:
    return sum(row["label"] != right_label(row["text"]) for row in rows)


def test_a_batch_with_right_labels_is_no_news(with_champion: tuple[Recipe, Home], tmp_path: Path) -> None:
    recipe, home = with_champion
    assert take_in(recipe, home, tmp_path, noise=0.0).accepted == 200
    assert load_reviews(home) == []
    assert doubtful_labels.list_doubtful_rows(RunContext(recipe, home)) == []


def test_wrong_labels_are_accepted_listed_and_told(
    with_champion: tuple[Recipe, Home], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, home = with_champion
    assert take_in(recipe, home, tmp_path, NOISE).accepted == 200
    assert "of 200 labels" in caplog.text
    assert "evertune review RECIPE" in caplog.text
    listed = doubtful_labels.list_doubtful_rows(RunContext(recipe, home))
    wrong = count_wrong_labels(current(home, "text", "label"))
    assert wrong > 60
    assert len(listed) >= 0.9 * wrong
    assert all(row.batch == 2 and row.suggestion == right_label(row.text) != row.label for row in listed)
    doubtful_labels.export_doubtful_rows(listed, tmp_path / "list.txt")
    assert listed[0].text in (tmp_path / "list.txt").read_text(encoding="utf-8")


def test_a_corrected_row_leaves_the_list(with_champion: tuple[Recipe, Home], tmp_path: Path) -> None:
    recipe, home = with_champion
    take_in(recipe, home, tmp_path, NOISE)
    context = RunContext(recipe, home)
    assert doubtful_labels.list_doubtful_rows(context)
    write_csv(tmp_path / "b.csv", make_rows(200, 0.0, 2), HEADER)
    admission.admit_batch(ingest(recipe, home), context)
    assert doubtful_labels.list_doubtful_rows(context) == []


def test_with_quarantine_they_are_refused_and_can_be_released(
    with_champion: tuple[Recipe, Home], tmp_path: Path
) -> None:
    recipe, home = with_champion
    snapshot = take_in(recipe, home, tmp_path, NOISE, "quarantine")
    refused = release.list_refused(home).to_pylist()
    assert snapshot.accepted + len(refused) == 200
    assert len(refused) > 50
    assert {kind for row in refused for kind in row["kinds"]} == {KIND}
    assert refused[0]["reasons"][0].startswith("the label ")
    assert count_wrong_labels(current(home, "text", "label")) < 15
    assert corpus.take_snapshot(home).batch == 2
    release.release_file(RunContext(recipe, home), None)
    assert len(current(home)) == 700


def test_with_stop_nothing_is_ingested_and_the_rows_are_listed(
    with_champion: tuple[Recipe, Home], tmp_path: Path
) -> None:
    recipe, home = with_champion
    with pytest.raises(BatchStoppedError, match=r"labels \(.*%\) are doubtful.*noise: stop"):
        take_in(recipe, home, tmp_path, NOISE, "stop")
    assert corpus.last_number(home) == 1
    assert len(release.list_refused(home)) > 50
    assert not list(home.batches.glob(".*.parquet"))


def test_a_champion_that_fails_ends_no_run(
    with_champion: tuple[Recipe, Home],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: Path) -> None:
        raise RuntimeError("no such operator")

    recipe, home = with_champion
    monkeypatch.setattr(doubtful_labels.bundle, "load_predictor", fail)
    assert take_in(recipe, home, tmp_path, NOISE, "stop").accepted == 200
    assert "doubtful labels not looked for: RuntimeError: no such operator" in caplog.text
