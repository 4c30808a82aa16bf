"""A simple model to compare with: logistic regression over the words of the texts (TF-IDF)."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from evertune.objectives import extract_cells, load_objective
from evertune.statistics.resampling import sum_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from sklearn.linear_model import SGDClassifier

    from evertune.config import Recipe

TRAIN_ROWS = 10_000  # newest train rows that it learns from
EPOCHS = 20
PENALTY = 1e-5
NEAREST = 10  # labels that an answer ranks
THRESHOLD = 0.5  # probability from which a row has a label, where it may have several


class WordBaseline(TypedDict):
    """What the simple model reaches.

    Args:
        how: what it is, for people.
        rows: number of test rows; `train_rows` that it learned from.
        metrics: the objective's metrics on the test rows.
        seconds: that it took to train and predict.
    """

    how: str
    rows: int
    train_rows: int
    metrics: dict[str, float | None]
    seconds: float


def measure_word_baseline(
    recipe: "Recipe", train: "pa.Table", test: "pa.Table", labels: Sequence[str]
) -> WordBaseline | None:
    """Train the simple model and return its metrics; None where rows are too few or all alike.

    Args:
        recipe: the model's recipe.
        train: rows to learn from, in order of arrival.
        test: the test rows.
        labels: all labels.
    """
    start = time.perf_counter()
    objective = load_objective(recipe.objective.type)
    train = train.slice(max(0, len(train) - TRAIN_ROWS))
    has_several_labels = objective.COLUMNS[objective.TARGET] == "labels"
    targets = extract_cells(train, [objective.TARGET])
    distinct = {tuple(target) if has_several_labels else target for target in targets}
    if len(distinct) < 2 or not len(test):
        return None
    texts = [join_texts(value) for value in extract_cells(train, objective.INPUTS)]
    test_texts = [join_texts(value) for value in extract_cells(test, objective.INPUTS)]
    names, probabilities = _fit_and_predict(texts, targets, test_texts, has_several_labels, recipe.training.seed)
    write_answer = _answer_with_labels if has_several_labels else _answer_with_label
    predictions = [write_answer(objective.TARGET, names, row) for row in probabilities]
    test_targets = extract_cells(test, [objective.TARGET])
    all_names = list(dict.fromkeys([*labels, *names, *objective.list_labels(test_targets)]))
    sums = sum_rows(objective.compute_statistics(test_targets, predictions, all_names))
    metrics = objective.compute_metrics(sums, all_names)
    return {
        "how": "TF-IDF and logistic regression",
        "rows": len(test),
        "train_rows": len(train),
        "metrics": {name: float(value) if np.isfinite(value) else None for name, value in metrics.items()},
        "seconds": time.perf_counter() - start,
    }


def join_texts(value: object) -> str:
    """Return an input as a single text."""
    return " \n ".join(value) if isinstance(value, tuple | list) else str(value)


def build_classifier(seed: int) -> "SGDClassifier":
    """Return an untrained logistic regression, one label against the others.

    Stochastic gradient descent is as accurate here as a Newton method, and ten times as fast.
    """
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", alpha=PENALTY, max_iter=EPOCHS, tol=None, random_state=seed)


def _fit_and_predict(
    texts: Sequence[str], targets: Sequence[Any], others: Sequence[str], has_several_labels: bool, seed: int
) -> tuple[list[str], NDArray[np.float64]]:
    """Return the labels and their probabilities (others, labels) for other texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import MultiLabelBinarizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    features = vectorizer.fit_transform(texts)
    model = build_classifier(seed)
    if has_several_labels:
        binarizer = MultiLabelBinarizer().fit(targets)
        model = OneVsRestClassifier(model).fit(features, binarizer.transform(targets))
        names = list(binarizer.classes_)
    else:
        model = model.fit(features, np.array(targets, dtype=object))
        names = list(model.classes_)
    return names, cast("NDArray[np.float64]", model.predict_proba(vectorizer.transform(others)))


def _answer_with_label(target: str, names: Sequence[str], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Return an answer; the objective `embedding` also asks for the nearest labels."""
    ranking = np.argsort(-probabilities, kind="stable")
    nearest = [names[index] for index in ranking[:NEAREST]]
    return {target: nearest[0], "score": float(probabilities[ranking[0]]), "nearest": nearest}


def _answer_with_labels(target: str, names: Sequence[str], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    all_scores = dict(zip(names, probabilities.tolist(), strict=True))
    chosen = [name for name, score in all_scores.items() if score >= THRESHOLD]
    return {target: chosen, "scores": [all_scores[name] for name in chosen], "all_scores": all_scores}
