"""What objectives measure: scikit-learn's and seqeval's numbers, and sums that can be weighted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune import objectives
from evertune.objectives import text_classification, token_classification
from evertune.objectives.shared import scoring
from tests.helpers.model import certain

SCORES = st.floats(0, 1, width=32)
LABEL_ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), SCORES), min_size=1, max_size=40)


@given(LABEL_ROWS)
@settings(deadline=None)
def test_label_metrics_are_scikit_learns(rows: list[tuple[str, str, float]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    true, guess, scores = (list(column) for column in zip(*rows, strict=True))
    predictions = [{"label": label, "score": score} for label, score in zip(guess, scores, strict=True)]
    sums = text_classification.compute_statistics(true, predictions, "abcd").sum(0, dtype="float64")
    values = text_classification.compute_metrics(sums, "abcd")
    assert values["accuracy"] == pytest.approx(accuracy_score(true, guess))
    for average in ("macro", "micro", "weighted"):
        assert values[f"f1_{average}"] == pytest.approx(f1_score(true, guess, average=average, zero_division=0))
    precision, recall, _, _ = precision_recall_fscore_support(true, guess, average="macro", zero_division=0)
    assert (values["precision_macro"], values["recall_macro"]) == (pytest.approx(precision), pytest.approx(recall))
    table = text_classification.summarize_classes(sums, "abcd")["per_class"]
    expected = precision_recall_fscore_support(true, guess, labels=list("abcd"), zero_division=0)
    for label, *figures in zip("abcd", *expected, strict=True):
        assert list(table[label].values()) == pytest.approx([float(figure) for figure in figures])


@given(LABEL_ROWS)
@settings(deadline=None)
def test_calibration_error_is_that_of_a_plain_loop(rows: list[tuple[str, str, float]]) -> None:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for true, guess, score in rows:
        bins.setdefault(min(int(score * scoring.BINS), scoring.BINS - 1), []).append((score, true == guess))
    expected = sum(
        len(one) / len(rows) * abs(np.mean([score for score, _ in one]) - np.mean([hit for _, hit in one]))
        for one in bins.values()
    )
    predictions = [{"label": guess, "score": score} for _, guess, score in rows]
    sums = text_classification.compute_statistics([true for true, _, _ in rows], predictions, "abcd").sum(
        0, dtype="float64"
    )
    assert text_classification.compute_metrics(sums, "abcd")["ece"] == pytest.approx(expected, abs=1e-6)
    curve = text_classification.summarize_classes(sums, "abcd")["calibration"]
    assert sum(one["rows"] for one in curve) == len(rows) and len(curve) == len(bins)


ONE_LABEL = ("text-classification", "token-classification", "pair-classification")
TAG_NAMES = ("O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC")))


def sentences(tags: Sequence[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(st.tuples(st.sampled_from(tags), st.sampled_from(tags)), min_size=1, max_size=12)


@given(st.lists(sentences(TAG_NAMES), min_size=1, max_size=5))
@settings(deadline=None)
def test_entity_metrics_are_seqevals_for_any_bio_or_bioes_tags(rows: list[list[tuple[str, str]]]) -> None:
    from seqeval.metrics import classification_report, f1_score, precision_score, recall_score

    true, guess = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    predictions = [{"tags": tags, "scores": [0.5] * len(tags)} for tags in guess]
    sums = token_classification.compute_statistics(true, predictions, TAG_NAMES).sum(0, dtype="float64")
    values = token_classification.compute_metrics(sums, TAG_NAMES)
    figures = (f1_score, precision_score, recall_score)
    for metric, function in zip(("entity_f1", "entity_precision", "entity_recall"), figures, strict=True):
        assert values[metric] == pytest.approx(function(true, guess, zero_division=0))
    if any(set(tags) - {"O"} for tags in (*true, *guess)):
        table = token_classification.summarize_classes(sums, TAG_NAMES)["per_class"]
        for kind, figure in classification_report(true, guess, output_dict=True, zero_division=0).items():
            if kind in table:
                assert table[kind]["f1"] == pytest.approx(figure["f1-score"])
                assert table[kind]["support"] == figure["support"]


@given(sentences(TAG_NAMES))
@settings(deadline=None)
def test_tag_metrics_are_scikit_learns(row: list[tuple[str, str]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    true = [pair[0] for pair in row]
    guess = [pair[1] for pair in row]
    found = token_classification.compute_statistics([true], [{"tags": guess, "scores": [0.5] * len(guess)}], TAG_NAMES)
    values = token_classification.compute_metrics(found.sum(0, dtype="float64"), TAG_NAMES)
    assert values["accuracy"] == pytest.approx(accuracy_score(true, guess))
    for average in ("macro", "micro", "weighted"):
        assert values[f"token_f1_{average}"] == pytest.approx(f1_score(true, guess, average=average, zero_division=0))


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", set()),
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        ("I-PER I-PER I-LOC", {("PER", 0, 2), ("LOC", 2, 3)}),  # conlleval: an I- without its B- starts an entity
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("S-PER B-LOC I-LOC E-LOC", {("PER", 0, 1), ("LOC", 1, 4)}),
        ("U-PER B-LOC L-LOC I-LOC", {("PER", 0, 1), ("LOC", 1, 3), ("LOC", 3, 4)}),  # BILOU
        ("NOUN NOUN VERB O NOUN", {("NOUN", 0, 2), ("VERB", 2, 3), ("NOUN", 4, 5)}),  # plain tags
        ("B-first-name I-first-name", {("first-name", 0, 2)}),
        ("E-MAIL E-MAIL O S-BAHN S-BAHN", {("E-MAIL", 0, 2), ("S-BAHN", 3, 5)}),  # plain tags that look like prefixes
        ("E-MAIL E-MAIL B-LOC I-LOC", {("E-MAIL", 0, 2), ("LOC", 2, 4)}),  # nothing that begins a MAIL
        ("E-MAIL E-MAIL B-LOC I-LOC PHONE", {("E-MAIL", 0, 2), ("LOC", 2, 4), ("PHONE", 4, 5)}),
    ],
)
def test_spans_of_tags(tags: str, spans: set[tuple[str, int, int]]) -> None:
    assert (
        set(token_classification.find_entities(tags.split(), token_classification.parse_grammar(tags.split()))) == spans
    )


def test_without_any_entity_the_entity_metrics_are_0_and_finite() -> None:
    found = token_classification.compute_statistics([["O", "O"]], [{"tags": ["O", "O"], "scores": [0.9, 0.9]}], ["O"])
    values = token_classification.compute_metrics(found.sum(0, dtype="float64"), ["O"])
    assert values["entity_f1"] == 0.0 and values["accuracy"] == 1.0


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_weighted_sums_are_the_metrics_of_the_repeated_rows(data: st.DataObject) -> None:
    objective = objectives.load_objective(data.draw(st.sampled_from(ONE_LABEL)))
    labels = TAG_NAMES
    pairs = data.draw(st.lists(sentences(labels), min_size=1, max_size=8))
    kind = objective.COLUMNS[objective.TARGET]
    true, named = ([one(pair, kind) for pair in pairs] for one in (_true, _named))
    predictions = certain(objective, named, 0.7)
    times = data.draw(st.lists(st.integers(0, 4), min_size=len(pairs), max_size=len(pairs)).filter(any))
    weighted = np.array(times) @ objective.compute_statistics(true, predictions, labels).astype("float64")
    repeated = [number for number, count in enumerate(times) for _ in range(count)]
    picked = [true[number] for number in repeated], [predictions[number] for number in repeated]
    expected = objective.compute_metrics(objective.compute_statistics(*picked, labels).sum(0, dtype="float64"), labels)
    for metric, value in objective.compute_metrics(np.stack([weighted, weighted]), labels).items():
        assert value == pytest.approx([expected[metric]] * 2, nan_ok=True), metric


def _true(sentence: list[tuple[str, str]], kind: str) -> Any:
    """The target of a row: a tag for each word, or one label."""
    return [tag for tag, _ in sentence] if kind == "strings" else sentence[0][0]


def _named(sentence: list[tuple[str, str]], kind: str) -> Any:
    return [tag for _, tag in sentence] if kind == "strings" else sentence[0][1]
