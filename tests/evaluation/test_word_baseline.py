"""What a simple model of the words reaches."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evertune.evaluation.word_baseline import measure_word_baseline
from evertune.objectives import load_objective
from tests.helpers.model import recipe

TEXTS = [("the striker scored", "sport"), ("shares fell sharply", "economy")] * 10
LABELS = ("sport", "economy")


def rows(objective: str, texts: list[tuple[str, str]]) -> pa.Table:
    """Rows of an objective with these texts and labels."""
    target = load_objective(objective).TARGET
    columns: dict[str, Any] = {
        "text": [text for text, _ in texts],
        "text_pair": ["of today"] * len(texts),
        target: [[label] if objective == "multi-label" else label for _, label in texts],
    }
    return pa.table(columns)


@pytest.mark.parametrize("objective", ["text-classification", "pair-classification", "multi-label", "embedding"])
def test_it_learns_labels_from_words(objective: str) -> None:
    one = recipe(Path(), {"type": objective})
    assert load_objective(objective).has_labeled_texts
    baseline = measure_word_baseline(
        one, rows(objective, TEXTS), rows(objective, [("a striker scored", "sport"), ("the shares", "economy")]), LABELS
    )
    assert baseline is not None
    assert (baseline["rows"], baseline["train_rows"]) == (2, 20)
    assert baseline["metrics"][one.metric] == 1.0


def test_with_several_labels_a_row_may_have_none_and_two() -> None:
    texts = [("alpha", ["a"]), ("beta", ["b"]), ("alpha beta", ["a", "b"]), ("gamma", [])] * 20
    table = pa.table({"text": [text for text, _ in texts], "labels": [labels for _, labels in texts]})
    baseline = measure_word_baseline(recipe(Path(), {"type": "multi-label"}), table, table.slice(0, 4), ("a", "b"))
    assert baseline is not None
    assert baseline["metrics"]["accuracy"] == 1.0


def test_it_says_nothing_of_rows_that_are_all_alike() -> None:
    one = recipe(Path(), {"type": "text-classification"})
    table = rows("text-classification", TEXTS)
    alike = rows("text-classification", [("a", "sport")] * 5)
    assert measure_word_baseline(one, alike, table, LABELS) is None
    assert measure_word_baseline(one, table, table.slice(0, 0), LABELS) is None


@pytest.mark.parametrize("objective", ["token-classification", "image-classification", "causal-lm", "pair-regression"])
def test_other_objectives_have_none(objective: str) -> None:
    assert not load_objective(objective).has_labeled_texts
