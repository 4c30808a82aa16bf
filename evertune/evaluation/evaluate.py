"""Score challenger and champion on the same sealed test rows in the same run: the evidence that the gate reads."""

import logging
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from evertune.data import label_names, thumbnails
from evertune.data.columns.strings import mask_equal
from evertune.errors import DataError
from evertune.evaluation import excerpts, robustness, row_facts, row_scores
from evertune.evaluation import slices as slicing
from evertune.objectives import Objective, extract_cells, load_objective
from evertune.objectives.shared.proper_scores import RowScores
from evertune.records import Candidate, Evaluation, file_digest, to_plain
from evertune.runtime import malloc
from evertune.runtime.files import read_json, write_json
from evertune.serving import bundle
from evertune.statistics import resampling
from evertune.statistics.clusters import sum_by_group

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe

logger = logging.getLogger(__name__)
Mask = npt.NDArray[np.bool_]
STEP_VERSION = 5  # raise it when the same input gives another evaluation
SAMPLE = 200  # rows on which the served model must agree with the tested one
FEW = 20  # the same for models that write: their answers are made again for this sample, which is slow
SHOWN = 40  # changed rows that the report shows
EVIDENCE = "evidence.npz"
DETAILS = "details.json"
PARITY = "parity.json"
FILES = (EVIDENCE, DETAILS, PARITY)
KEPT = "evaluation.json"
CONFUSED = 300  # most classes in the saved confusion matrix, the most frequent ones: keeps the file small


@malloc.keep_memory()
def evaluate_models(
    recipe: "Recipe",
    candidate: Candidate,
    test: "pa.Table",
    leaked: set[str],
    champion: Path | None,
    champion_version: int | None,
    *,
    problem: str | None = None,
) -> Evaluation:
    """Score both models on the test rows and write evidence and details to the candidate's run folder.

    Args:
        recipe: the model's recipe.
        candidate: the challenger.
        test: the snapshot's test rows.
        leaked: row versions of test rows that are in or near a training snapshot.
        champion: the champion's bundle; None if there is no champion, or it cannot be read.
        champion_version: its version; None without a champion.
        problem: why the champion cannot be compared; the gate then holds.
    Raises:
        DataError: there are no test rows.
        TrainingError: the challenger cannot be loaded.
    """
    if not len(test):
        raise DataError("no test rows, so no evidence for a promotion; add rows")
    start = time.perf_counter()
    objective = load_objective(recipe.objective.type)
    folder = Path(candidate.run_folder)
    inputs = extract_cells(test, objective.INPUTS)
    targets = extract_cells(test, [objective.TARGET])
    challenger = bundle.load_predictor(Path(candidate.bundle))
    opponent, failure = _open_champion(champion, recipe)
    classes = _count_classes(objective, candidate, opponent, targets)
    predictions: dict[str, list[Any]] = {}
    scores: dict[str, RowScores | None] = {}
    predictions["challenger"], scores["challenger"] = row_scores.predict_with_scores(
        objective, challenger, inputs, targets, {}, classes
    )
    if opponent is not None:
        try:
            outputs, scores["champion"] = row_scores.predict_with_scores(
                objective, opponent.predictor, inputs, targets, recipe.contract.label.rename, classes
            )
            predictions["champion"] = label_names.rename_predictions(outputs, recipe)
        except Exception as error:  # its code may be of any age: whatever fails, the gate holds
            failure = f"{type(error).__name__}: {error}"
            opponent = None
    if failure:
        problem = f"the champion, version {champion_version}, cannot be read: {failure}"
    since = opponent.since if opponent else 0
    names = _collect_labels(objective, candidate, targets, predictions)
    stats = _compute_statistics(objective, targets, predictions, names)
    facts = row_facts.describe_rows(objective, inputs, targets, test, names)
    has_new_label = facts.mark_new_labels(opponent.labels if opponent and objective.LABELED else None)
    masks = _build_masks(test, leaked, since, has_new_label)
    slices = slicing.cut_slices(recipe.evaluation.slices, facts, since)
    arrays = {
        "groups": facts.groups,
        "days": facts.days,
        "ingests": facts.ingests,
        "class": facts.classes,
        "row_version": np.array(test.column("row_version").to_pylist()),
        **_pack_scores(scores),
    }
    _write_evidence(folder / EVIDENCE, stats, masks, slices, names, arrays)
    groups = facts.groups
    details = Scores(recipe, objective, names, stats, groups, masks, slices, inputs, targets, predictions).details()
    details |= robustness.evaluate_robustness(
        recipe, objective, Path(candidate.bundle), champion, inputs, targets, predictions
    )
    write_json(folder / DETAILS, details)
    _write_sample(folder / PARITY, objective, challenger, inputs, predictions["challenger"])
    return Evaluation(
        metrics=details["challenger"]["metrics"],
        champion_version=champion_version,
        champion_metrics=(details["champion"] or {"metrics": {}})["metrics"],
        leaked=details["leaked"],
        evidence=str(folder / EVIDENCE),
        details=str(folder / DETAILS),
        seconds=time.perf_counter() - start,
        problem=problem,
    )


def select_scored_rows(rows: "pa.Table", window: int | None, since: int | None) -> Mask:
    """Return a mask (rows,) of the scored rows: the test rows that are new to the champion, and the newest old ones.

    Args:
        rows: a snapshot's rows in order of arrival, with `batch` and `split`.
        window: number of old test rows. None: all.
        since: newest batch that the champion knows. None: there is no champion, and every row is old.
    """
    return limit_window(mask_equal(rows["split"], "test"), rows["batch"].to_numpy(), window, since)


def limit_window(is_test: Mask, batches: npt.NDArray[np.int64], window: int | None, since: int | None) -> Mask:
    """Return a mask (rows,) of the test rows without all but the newest `window` of those that the champion knows.

    Args:
        is_test: (rows,) in order of arrival.
        batches: (rows,) batch of each row.
        window: number of old test rows. None: all.
        since: newest batch that the champion knows. None: there is no champion, and every row is old.
    """
    if window is None:
        return is_test
    is_old = is_test if since is None else is_test & (batches <= since)
    old_rows = np.flatnonzero(is_old)
    is_scored = is_test.copy()
    is_scored[old_rows[: max(0, len(old_rows) - window)]] = False
    return is_scored


def load_evaluation(folder: Path, key: str) -> Evaluation | None:
    """Return the evaluation that an earlier process saved under this key, if its files are unchanged; else None."""
    cached = read_json(folder / KEPT)
    if cached is None or cached["key"] != key or cached["files"] != _compute_digests(folder):
        return None
    return Evaluation(**cached["evaluation"])


def save_evaluation(folder: Path, key: str, evaluation: Evaluation) -> None:
    """Record that the evaluation is done, for a process that resumes after a crash."""
    write_json(folder / KEPT, {"key": key, "files": _compute_digests(folder), "evaluation": to_plain(evaluation)})


def _compute_digests(folder: Path) -> dict[str, str | None]:
    files = [folder / name for name in FILES]
    return {file.name: file_digest(file) if file.is_file() else None for file in files}


@dataclass(frozen=True)
class Opponent:
    """The champion, ready to predict.

    Args:
        predictor: of its bundle.
        since: newest batch that it knows.
        labels: that it knows, under today's names.
    """

    predictor: Any
    since: int
    labels: list[str]


def _open_champion(folder: Path | None, recipe: "Recipe") -> tuple[Opponent | None, str]:
    """Return the champion, and why it cannot be read."""
    if folder is None:
        return None, ""
    try:
        since = int(bundle.read_card(folder)["snapshot"]["batch"])
        labels = label_names.rename_labels(bundle.read_labels(folder), recipe.contract.label.rename)
        return Opponent(bundle.load_predictor(folder), since, list(labels)), ""
    except Exception as error:  # its card and code may be of any age: whatever fails, the gate holds
        return None, f"{type(error).__name__}: {error}"


def _count_classes(objective: Objective, candidate: Candidate, opponent: Opponent | None, targets: list[Any]) -> int:
    """Return the number of labels that either model or a row knows; at least 2."""
    labels = {*candidate.tokens.snapshot.labels, *(opponent.labels if opponent else ())}
    if objective.LABELED:
        labels.update(objective.list_labels(targets))
    return max(2, len(labels))


def _pack_scores(scores: dict[str, RowScores | None]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of the evidence; empty unless every model has scores."""
    packed: dict[str, npt.NDArray[Any]] = {}
    for model, values in scores.items():
        if values is None:
            return {}
        packed |= {f"log_{model}": values.log, f"brier_{model}": values.brier, "sizes": values.sizes}
    return packed


def _compute_statistics(
    objective: Objective, targets: list[Any], predictions: dict[str, Any], names: list[str]
) -> dict[str, Any]:
    """Return the statistics of each model, and of the majority baseline, which a first version must beat."""
    scored = {**predictions, "majority": objective.predict_majority(targets)}
    return {
        model: objective.compute_statistics(targets, model_predictions, names)
        for model, model_predictions in scored.items()
    }


def _collect_labels(
    objective: Objective, candidate: Candidate, targets: list[Any], predictions: dict[str, Any]
) -> list[str]:
    """Return the challenger's labels in their order, then those that only the champion or the rows have."""
    if not objective.LABELED:
        return []
    labels = dict.fromkeys(candidate.tokens.snapshot.labels)
    for model_predictions in predictions.values():
        answers = [prediction[objective.TARGET] for prediction in model_predictions]
        labels |= dict.fromkeys(sorted(set(objective.list_labels(answers))))
    return list(labels | dict.fromkeys(sorted(set(objective.list_labels(targets)))))


def _build_masks(test: "pa.Table", leaked: set[str], since: int, has_new_label: Mask) -> dict[str, Mask]:
    """Return the masks (rows,) of the sets of rows that models are scored on.

    Both models are compared on `fresh` and `history`, without rows whose label the champion does not know.

    Args:
        test: the test rows.
        leaked: row versions of those that are in or near a training snapshot.
        since: newest batch that the champion knows.
        has_new_label: (rows,) true for rows whose label the champion does not know.
    """
    clean = np.array([name not in leaked for name in test.column("row_version").to_pylist()])
    fresh = test.column("batch").to_numpy() > since
    return {
        "test": np.ones(len(test), dtype=bool),
        "test_clean": clean,
        "fresh": clean & fresh & ~has_new_label,
        "history": clean & ~fresh & ~has_new_label,
        "new_labels": clean & has_new_label,
    }


def _write_evidence(
    path: Path,
    stats: dict[str, Any],
    masks: dict[str, Any],
    slices: dict[str, Any],
    names: list[str],
    arrays: dict[str, npt.NDArray[Any]],
) -> None:
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.array(names),
            slice_names=np.array(list(slices), dtype=str),
            slices=np.array(list(slices.values()), dtype=bool).reshape(len(slices), len(masks["test"])),
            **{f"stats_{model}": values for model, values in stats.items()},
            **{f"mask_{name}": mask for name, mask in masks.items()},
            **cast("dict[str, Any]", arrays),
        )


@dataclass(frozen=True)
class Scores:
    """Both models' answers and statistics on the test rows, and the details that are computed from them.

    Args:
        recipe: the model's recipe.
        objective: its module.
        names: all labels.
        stats: model -> statistics (rows, m); `champion` is missing without a champion.
        groups: (rows,) number of each row's group; the rows of a group are not independent.
        masks: name -> (rows,), as `_build_masks` returns them.
        slices: name -> (rows,).
        inputs: of the rows.
        targets: of the rows.
        predictions: model -> its answers.
    """

    recipe: "Recipe"
    objective: Objective
    names: list[str]
    stats: dict[str, npt.NDArray[Any]]
    groups: npt.NDArray[Any]
    masks: dict[str, Mask]
    slices: dict[str, Mask]
    inputs: list[Any]
    targets: list[Any]
    predictions: dict[str, list[dict[str, Any]]]

    def details(self) -> dict[str, Any]:
        """Return what the report shows, ready for JSON."""
        objective = self.objective
        metric = self.recipe.metric
        return {
            "metric": metric,
            "names": self.names,
            "rows": {name: int(mask.sum()) for name, mask in self.masks.items()},
            "challenger": self.summarize_model("challenger"),
            "champion": self.summarize_model("champion"),
            "leaked": int((~self.masks["test_clean"]).sum()),
            "slice_metric": resampling.slice_metric(metric, objective.METRICS),
            "slices": {name: self.describe_slice(mask) for name, mask in self.slices.items()},
            "changed": _list_changed_rows(objective, self.inputs, self.targets, self.predictions),
            "samples": excerpts.select_excerpts(objective, self.inputs, self.targets, self.predictions),
            "gallery": thumbnails.build_gallery(objective, self.inputs, self.targets, self.predictions),
        }

    def summarize_model(self, model: str) -> dict[str, Any] | None:
        """Return a model's metrics on each set of rows, with intervals and confusion; None for a missing champion."""
        if model not in self.stats:
            return None
        stats = self.stats[model]
        metrics = {}
        for name, mask in self.masks.items():
            if mask.any():
                values = self.objective.compute_metrics(stats[mask].sum(0, dtype="float64"), self.names)
                metrics[name] = {key: _finite_or_none(value) for key, value in values.items()}
        confusion: dict[str, Any] = {}
        if self.objective.LABELED:
            confusion = _count_confusion(*self.objective.pair_labels(self.targets, self.predictions[model]))
        return {
            "metrics": metrics,
            "intervals": self.compute_intervals(stats, self.groups),
            "class_intervals": self.compute_class_intervals(stats),
            **self.objective.summarize_classes(stats[self.masks["test"]].sum(0, dtype="float64"), self.names),
            "confusion": confusion,
        }

    def describe_slice(self, mask: Mask) -> dict[str, Any]:
        """Return the number of rows of a slice, and each model's metric on it with its interval."""
        values: dict[str, Any] = {"challenger": None, "champion": None}
        intervals = {}
        for model in ("challenger", "champion"):
            if model in self.stats:
                model_intervals = self.compute_intervals(self.stats[model][mask], self.groups[mask])
                interval = model_intervals[resampling.slice_metric(self.recipe.metric, model_intervals)]
                values[model] = interval[0]
                intervals[model] = interval
        return {"rows": int(mask.sum()), **values, "intervals": intervals}

    def compute_intervals(self, stats: npt.NDArray[Any], groups: npt.NDArray[Any]) -> dict[str, list[float | None]]:
        """Return `[estimate, low, high]` of each metric."""
        intervals = resampling.bootstrap_intervals(
            sum_by_group(stats, groups),
            lambda sums: self.objective.compute_metrics(sums, self.names),
            self.recipe.evaluation.bootstrap,
            self.recipe.evaluation.gate.confidence,
            self.recipe.training.seed,
        )
        return {key: [_finite_or_none(bound) for bound in triple] for key, triple in intervals.items()}

    def compute_class_intervals(self, stats: npt.NDArray[Any]) -> dict[str, list[float]]:
        """Return `[low, high]` of the F1 of each class with rows, from the same resamples as the other intervals."""
        rules = self.recipe.evaluation
        per_class = self.objective.summarize_classes(resampling.sum_rows(stats), self.names)["per_class"]
        if not per_class:
            return {}
        resampled = resampling.bootstrap_sums(
            sum_by_group(stats, self.groups), rules.bootstrap, self.recipe.training.seed
        )
        drawn = []
        for chunk in resampled:
            for sums in chunk:
                scores = self.objective.summarize_classes(sums, self.names)["per_class"]
                drawn.append([class_scores["f1"] for class_scores in scores.values()])
        tail = (1 - rules.gate.confidence) / 2
        bounds = np.quantile(drawn, [tail, 1 - tail], axis=0).T.tolist()
        return {
            name: bound for (name, scores), bound in zip(per_class.items(), bounds, strict=True) if scores["support"]
        }


def _finite_or_none(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _count_confusion(true: list[str], guess: list[str]) -> dict[str, Any]:
    frequent_labels = [name for name, _ in Counter(true + guess).most_common(CONFUSED)]
    counts = Counter(zip(true, guess, strict=True))
    return {
        "names": sorted(frequent_labels),
        "counts": [[counts[row, column] for column in sorted(frequent_labels)] for row in sorted(frequent_labels)],
    }


def _list_changed_rows(
    objective: Objective, inputs: list[Any], targets: list[Any], predictions: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return rows that one model gets right and the other wrong, as many of either kind as the report shows."""
    if "champion" not in predictions or not objective.LABELED:
        return []
    kinds: dict[str, list[dict[str, Any]]] = {"broken": [], "fixed": []}
    for input_value, target, old, new in zip(
        inputs, targets, predictions["champion"], predictions["challenger"], strict=True
    ):
        before = objective.pair_labels([target], [old])[1]
        after = objective.pair_labels([target], [new])[1]
        true_labels = objective.list_labels([target])
        if (before == true_labels) != (after == true_labels):
            if objective.shows_pictures:
                displayed_input = thumbnails.make_thumbnail(input_value)
            else:
                displayed_input = _as_text(input_value)
            row = {
                "input": displayed_input,
                "target": _as_text(true_labels),
                "champion": _as_text(before),
                "challenger": _as_text(after),
            }
            kinds["fixed" if after == true_labels else "broken"].append(row)
    return [{**row, "kind": kind} for kind, rows in kinds.items() for row in rows[: SHOWN // 2]]


def _as_text(value: Any) -> str:
    """Return an input or a target as text; the parts of an input with several parts are separated by a bar."""
    if isinstance(value, tuple):
        return " | ".join(map(_as_text, value))
    return (value if isinstance(value, str) else " ".join(value))[:500]


def _write_sample(
    path: Path, objective: Objective, predictor: Any, inputs: list[Any], predictions: list[dict[str, Any]]
) -> None:
    sample_size = FEW if objective.ASSESSED else SAMPLE
    step = max(1, len(inputs) // sample_size)
    inputs = inputs[::step][:sample_size]
    predictions = predictions[::step][:sample_size]
    if objective.ASSESSED:  # what was scored is not what is served
        predictions = predictor.predict(inputs)
    role = objective.INPUTS[0] if len(objective.INPUTS) == 1 else list(objective.INPUTS)
    write_json(path, {"role": role, "inputs": inputs, "predictions": predictions})
