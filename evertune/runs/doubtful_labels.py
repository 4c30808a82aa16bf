"""Compare the labels of a new batch with what the champion and a model of its texts say: are many of them wrong?"""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from evertune.data import label_names
from evertune.data.columns.strings import mask_equal
from evertune.data.contract.frame import get_target_role
from evertune.data.corpus import transactions as corpus
from evertune.data.label_review import Doubt, LabelReview, load_reviews
from evertune.data.text_matching import fold_text
from evertune.errors import DataError
from evertune.evaluation.word_baseline import build_classifier, join_texts
from evertune.objectives import Objective, extract_cells
from evertune.registry.versions import versions
from evertune.runtime.context import RunContext
from evertune.serving import bundle
from evertune.statistics.label_noise import compare_shares, suggest_labels

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_matrix

    from evertune.data.columns.chunks import RowReader

logger = logging.getLogger(__name__)
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEAST_ROWS = 50  # new rows, and the champion's test rows, below which nothing is compared
MOST_KNOWN = 4000  # newest rows of the corpus that the model of the texts learns from
MOST_REFERENCE = 2000  # newest test rows that say what is usual
MOST_FITTED = 6000  # rows that each of its fits takes
FOLDS = 3
SEED = 0  # the same rows give the same review


@dataclass(frozen=True)
class LabeledRows:
    """Rows with their labels, known and new ones together.

    Args:
        versions: (rows,) row versions.
        inputs: (rows,) as a model takes them.
        texts: (rows,) the inputs as texts.
        names: of the labels.
        labels: (rows,) index of each row's label.
        is_new: (rows,) rows of the batch.
        is_reference: (rows,) test rows that the champion knows, on which no model was trained.
    """

    versions: list[str]
    inputs: list[object]
    texts: list[str]
    names: list[str]
    labels: NDArray[np.int64]
    is_new: Mask
    is_reference: Mask


class DoubtfulRow(NamedTuple):
    """A row of the corpus whose label is doubtful.

    Args:
        batch: number of the batch that brought it.
        source: that it came from.
        source_row: its number there.
        id: None without an id column.
        label: that it has.
        suggestion: label that two models give it.
        text: its input.
        row_version: of the row.
    """

    batch: int
    source: str
    source_row: int
    id: str | None
    label: str
    suggestion: str
    text: str
    row_version: str


def list_doubtful_rows(context: RunContext) -> list[DoubtfulRow]:
    """Return the doubtful rows of all batches with unusually many, the newest first, as they are in the corpus now.

    Rows that were corrected, forgotten or refused since are left out.

    Raises:
        DataError: the corpus cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    doubts = {doubt.row_version: doubt for review in load_reviews(context.home) for doubt in review.doubts}
    if not doubts or not corpus.last_number(context.home):
        return []
    names = ["row_version", "batch", "source", "source_row", "id", *context.objective.INPUTS]
    rows = corpus.read_rows(context.home, corpus.newest_version(context.home), names)
    rows = rows.filter(pc.is_in(rows["row_version"], value_set=pa.array(list(doubts), pa.string())))
    inputs = extract_cells(rows, context.objective.INPUTS)
    listed = [
        DoubtfulRow(
            batch=row["batch"],
            source=row["source"],
            source_row=row["source_row"],
            id=row["id"],
            label=doubts[row["row_version"]].label,
            suggestion=doubts[row["row_version"]].suggestion,
            text=join_texts(value),
            row_version=row["row_version"],
        )
        for row, value in zip(rows.to_pylist(), inputs, strict=True)
    ]
    return sorted(listed, key=lambda row: (-row.batch, row.source, row.source_row))


def export_doubtful_rows(rows: Sequence[DoubtfulRow], path: Path) -> None:
    """Write the rows to a CSV file.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(DoubtfulRow._fields)
            writer.writerows(rows)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}; choose another path") from error


def supports_review(objective: Objective) -> bool:
    """Whether rows of this objective have texts and a single label."""
    return objective.has_labeled_texts and objective.COLUMNS[objective.TARGET] == "string"


def review_labels(context: RunContext, batch: int, accepted: "RowReader") -> LabelReview | None:
    """Return what is doubtful in a batch's labels; None where it cannot be said: no champion, or too few rows.

    It must not end a run, so an error is logged.

    Args:
        batch: its number.
        accepted: reads the rows that the contract accepted.
    """
    if not supports_review(context.objective) or not corpus.last_number(context.home):
        return None
    try:
        return _review_rows(context, batch, accepted)
    except Exception as error:  # the champion's code may be of any age
        logger.warning("validate: doubtful labels not looked for: %s: %s", type(error).__name__, error)
        return None


def _review_rows(context: RunContext, batch: int, accepted: "RowReader") -> LabelReview | None:
    import pyarrow as pa

    columns = ["row_version", "row_key", *context.objective.INPUTS, get_target_role(context.recipe)]
    new_rows = label_names.rename_rows(pa.concat_tables(accepted(columns)), context.recipe)
    if len(new_rows) < LEAST_ROWS:
        return None
    champion = versions.find_champion(context.home, context.recipe.registered_name)
    if champion is None:
        return None
    folder = versions.fetch_bundle(context.home, context.recipe.registered_name, champion)
    since = int(bundle.read_card(folder)["snapshot"]["batch"])
    rows = _join_rows(context, new_rows, since)
    if int(rows.is_reference.sum()) < LEAST_ROWS:
        return None
    is_known_label = np.isin(rows.labels, np.unique(rows.labels[~rows.is_new]))
    suggestions, is_confident = suggest_labels(predict_out_of_fold(rows.texts, rows.labels), rows.labels, ~rows.is_new)
    is_compared = (rows.is_new | rows.is_reference) & is_known_label
    suggestions[~is_compared | (suggestions == rows.labels)] = -1
    is_doubtful = _confirm_suggestions(context, bundle.load_predictor(folder), rows, suggestions)
    is_new = rows.is_new & is_known_label
    # Confident suggestions tell best whether something is wrong; if so, all suggestions tell best which rows are.
    test = compare_shares(is_doubtful & is_confident, rows.labels, is_new, rows.is_reference)
    listed = compare_shares(is_doubtful, rows.labels, is_new, rows.is_reference)
    doubts = tuple(
        Doubt(rows.versions[index], rows.names[rows.labels[index]], rows.names[suggestions[index]])
        for index in np.flatnonzero(is_doubtful & rows.is_new).tolist()
    )
    return LabelReview(batch, listed.rows, listed.share, listed.usual, test.p, test.is_unusual, doubts)


def _join_rows(context: RunContext, new_rows: "pa.Table", since: int) -> LabeledRows:
    """Return the newest rows of the corpus, without those that the batch replaces, and the rows of the batch."""
    import pyarrow as pa
    import pyarrow.compute as pc

    target = get_target_role(context.recipe)
    names = [*new_rows.column_names, "split", "batch"]
    known_rows = label_names.rename_rows(
        corpus.read_rows(context.home, corpus.newest_version(context.home), names), context.recipe
    )
    known_rows = known_rows.filter(pc.invert(pc.is_in(known_rows["row_key"], value_set=new_rows["row_key"])))
    is_reference = mask_equal(known_rows["split"], "test") & (known_rows["batch"].to_numpy() <= since)
    is_reference = _keep_newest(is_reference, MOST_REFERENCE)
    is_kept = is_reference | _keep_newest(np.ones(len(known_rows), dtype=bool), MOST_KNOWN)
    kept = known_rows.filter(pa.array(is_kept)).select(new_rows.column_names)
    table = pa.concat_tables([kept, new_rows])
    inputs = extract_cells(table, context.objective.INPUTS)
    label_cells = cast("list[str]", table[target].to_pylist())
    label_list, labels = np.unique(np.array(label_cells, dtype=object), return_inverse=True)
    is_new = np.arange(len(table)) >= len(kept)
    return LabeledRows(
        versions=table["row_version"].to_pylist(),
        inputs=inputs,
        texts=[join_texts(value) for value in inputs],
        names=label_list.tolist(),
        labels=labels.astype(np.int64),
        is_new=is_new,
        is_reference=np.concatenate([is_reference[is_kept], np.zeros(len(new_rows), dtype=bool)]),
    )


def _keep_newest(mask: Mask, most: int) -> Mask:
    """Return the mask with only its last `most` rows."""
    newest = np.zeros_like(mask)
    newest[np.flatnonzero(mask)[-most:]] = True
    return newest


def predict_out_of_fold(texts: Sequence[str], labels: NDArray[np.int64]) -> Floats:
    """Return (rows, labels) probabilities from logistic regressions over TF-IDF that were fitted without the row.

    Rows with the same text lie in the same fold.

    Args:
        texts: of the rows.
        labels: (rows,) index of each row's label.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    features = cast("csr_matrix", TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(texts))
    _, text_numbers = np.unique(np.array([fold_text(text) for text in texts], dtype=object), return_inverse=True)
    rng = np.random.default_rng(SEED)
    folds = (rng.permutation(int(text_numbers.max()) + 1) % FOLDS)[text_numbers]
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    for fold in range(FOLDS):
        fitted = np.flatnonzero(folds != fold)
        if len(fitted) > MOST_FITTED:
            fitted = np.sort(rng.choice(fitted, MOST_FITTED, replace=False))
        present, values = fit_and_predict(features[fitted], labels[fitted], features[folds == fold])
        probabilities[np.ix_(folds == fold, present)] = values
    return probabilities


def fit_and_predict(
    features: "csr_matrix", labels: NDArray[np.int64], others: "csr_matrix"
) -> tuple[NDArray[np.int64], Floats]:
    """Return the labels that the rows have, and their probabilities (others, labels) for other rows."""
    present = np.unique(labels)
    if len(present) == 1:
        return present, np.ones((others.shape[0], 1))
    model = build_classifier(SEED).fit(features, labels)
    return model.classes_, np.asarray(model.predict_proba(others), dtype=np.float64)


def _confirm_suggestions(
    context: RunContext, predictor: Any, rows: LabeledRows, suggestions: NDArray[np.int64]
) -> Mask:
    """Return a mask (rows,) of rows to which the champion gives the suggested label too."""
    confirmed = np.zeros(len(suggestions), dtype=bool)
    indices = np.flatnonzero(suggestions >= 0).tolist()
    if not indices:
        return confirmed
    inputs: Sequence[object] = [rows.inputs[index] for index in indices]
    predictions = label_names.rename_predictions(predictor.predict(inputs), context.recipe)
    for index, prediction in zip(indices, predictions, strict=True):
        confirmed[index] = prediction[context.objective.TARGET] == rows.names[suggestions[index]]
    return confirmed
