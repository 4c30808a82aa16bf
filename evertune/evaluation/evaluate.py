"""Challenger and champion, scored on the same sealed rows in the same run: the evidence that the gate reads."""

import logging
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.data import label_names, thumbnails
from evertune.data.columns.strings import mask_equal
from evertune.errors import DataError
from evertune.evaluation import excerpts, robustness
from evertune.evaluation import slices as slicing
from evertune.objectives import Objective, extract_cells, load_objective
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
STEP_VERSION = 4  # raise it when the same input gives another evaluation
SAMPLE = 200  # rows on which the served model must agree with the tested one
FEW = 20  # where they are made again, for what is served is less than what is judged; writing takes long
SHOWN = 40  # changed rows that the report shows
EVIDENCE, DETAILS, PARITY = FILES = "evidence.npz", "details.json", "parity.json"
KEPT = "evaluation.json"
CONFUSED = 300  # classes of the confusion matrix that is kept, the most frequent: keeps the file small


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
    """Score both models on the test rows and write evidence and details beside the candidate.

    Args:
        test: the snapshot's test rows.
        leaked: row versions of them that stand in or near a training snapshot.
        champion: the champion's bundle, None where there is none or it cannot be read.
        problem: why the champion cannot be compared; the gate then holds.
    Raises:
        DataError: there are no test rows.
        TrainingError: the challenger cannot be loaded.
    """
    if not len(test):
        raise DataError("no test rows, so no evidence to promote on; add rows")
    start = time.perf_counter()
    objective = load_objective(recipe.objective.type)
    folder = Path(candidate.run_folder)
    inputs = extract_cells(test, objective.INPUTS)
    targets = extract_cells(test, [objective.TARGET])
    challenger = bundle.load_predictor(Path(candidate.bundle))
    predictions = {"challenger": _predict_rows(objective, challenger, inputs, targets)}
    since, champion_predictions, champion_labels, failure = _predict_champion(objective, champion, inputs, targets)
    predictions |= (
        {"champion": label_names.rename_predictions(champion_predictions, recipe)}
        if champion_predictions is not None
        else {}
    )
    problem = f"the champion, version {champion_version}, cannot be read: {failure}" if failure else problem
    names = _collect_labels(objective, candidate, targets, predictions)
    stats = _compute_statistics(objective, targets, predictions, names)
    masks = _build_masks(test, leaked, since, _mark_unseen_labels(champion_labels, recipe, objective, targets))
    slices = slicing.cut_slices(recipe, objective, inputs, targets, test, names, since)
    groups = np.unique(test.column("component").to_numpy(), return_inverse=True)[1]  # are right or wrong together
    _write_evidence(folder / EVIDENCE, stats, masks, slices, names, groups)
    details = _build_details(recipe, objective, names, stats, groups, masks, slices, targets, predictions, inputs)
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


def select_scored_rows(rows: "pa.Table", window: int | None, since: int | None) -> Any:
    """(rows,) which rows of a snapshot are scored: the test rows that are new to the champion, and the newest others.

    Args:
        rows: in the order in which they came, with `batch` and `split`.
        window: how many others. Default: all.
        since: newest batch that the champion knew. Default: there is none, and every row is another.
    """
    test = mask_equal(rows["split"], "test")
    if window is None:
        return test
    old_rows = np.flatnonzero(test & (rows["batch"].to_numpy() <= since)) if since is not None else np.flatnonzero(test)
    test[old_rows[: max(0, len(old_rows) - window)]] = False
    return test


def load_evaluation(folder: Path, key: str) -> Evaluation | None:
    """The evaluation that an earlier process wrote under this key, if its files are as they were."""
    cached = read_json(folder / KEPT)
    if cached is None or cached["key"] != key or cached["files"] != _compute_digests(folder):
        return None
    return Evaluation(**cached["evaluation"])


def save_evaluation(folder: Path, key: str, evaluation: Evaluation) -> None:
    """Note that the evaluation is done, for a process that goes on after a crash."""
    write_json(folder / KEPT, {"key": key, "files": _compute_digests(folder), "evaluation": to_plain(evaluation)})


def _compute_digests(folder: Path) -> dict[str, str | None]:
    files = [folder / name for name in FILES]
    return {file.name: file_digest(file) if file.is_file() else None for file in files}


def _predict_rows(objective: Objective, predictor: Any, inputs: list[Any], targets: list[Any]) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = (
        predictor.assess(inputs, targets) if objective.ASSESSED else predictor.predict(inputs)
    )
    return predictions


def _predict_champion(
    objective: Objective, folder: Path | None, inputs: list[Any], targets: list[Any]
) -> tuple[int, list[dict[str, Any]] | None, list[str] | None, str]:
    """The newest batch that the champion knows, its predictions and its labels, and why there are none."""
    if folder is None:
        return 0, None, None, ""
    try:
        since = int(bundle.read_card(folder)["snapshot"]["batch"])
        labels = bundle.read_labels(folder)
        return since, _predict_rows(objective, bundle.load_predictor(folder), inputs, targets), labels, ""
    except Exception as error:  # its card and code may be of any age: whatever fails, the gate holds
        return 0, None, None, f"{type(error).__name__}: {error}"


def _compute_statistics(
    objective: Objective, targets: list[Any], predictions: dict[str, Any], names: list[str]
) -> dict[str, Any]:
    """Of each model, and of always giving the commonest label, which a first version must beat."""
    scored = {**predictions, "majority": objective.predict_majority(targets)}
    return {
        model: objective.compute_statistics(targets, model_predictions, names)
        for model, model_predictions in scored.items()
    }


def _collect_labels(
    objective: Objective, candidate: Candidate, targets: list[Any], predictions: dict[str, Any]
) -> list[str]:
    """The challenger's labels in their order, then those that only the champion or the rows know."""
    if not objective.LABELED:
        return []
    labels = dict.fromkeys(candidate.tokens.snapshot.labels)
    for model_predictions in predictions.values():
        labels |= dict.fromkeys(
            sorted(set(objective.list_labels([prediction[objective.TARGET] for prediction in model_predictions])))
        )
    return list(labels | dict.fromkeys(sorted(set(objective.list_labels(targets)))))


def _build_masks(test: "pa.Table", leaked: set[str], since: int, has_unseen_label: Any) -> dict[str, Any]:
    """Both models are compared on `fresh` and `history`; rows with a label that the champion does not know are apart.

    Args:
        since: newest batch that the champion knew; apart: (rows,) see `_untaught`.
    """
    clean = np.array([name not in leaked for name in test.column("row_version").to_pylist()])
    fresh = test.column("batch").to_numpy() > since
    return {
        "test": np.ones(len(test), dtype=bool),
        "test_clean": clean,
        "fresh": clean & fresh & ~has_unseen_label,
        "history": clean & ~fresh & ~has_unseen_label,
        "new_labels": clean & has_unseen_label,
    }


def _mark_unseen_labels(
    champion_labels: list[str] | None, recipe: "Recipe", objective: Objective, targets: list[Any]
) -> Any:
    """(rows,) which rows have a label that is not among those that the champion was taught; None: there is none."""
    if champion_labels is None or not objective.LABELED:
        return np.zeros(len(targets), dtype=bool)
    known_labels = set(label_names.rename_labels(champion_labels, recipe.contract.label.rename))
    return np.array([not known_labels.issuperset(objective.list_labels([target])) for target in targets])


def _write_evidence(
    path: Path, stats: dict[str, Any], masks: dict[str, Any], slices: dict[str, Any], names: list[str], groups: Any
) -> None:
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.array(names),
            groups=groups,
            slice_names=np.array(list(slices), dtype=str),
            slices=np.array(list(slices.values()), dtype=bool).reshape(len(slices), len(masks["test"])),
            **{f"stats_{model}": values for model, values in stats.items()},
            **{f"mask_{name}": mask for name, mask in masks.items()},
        )


def _build_details(
    recipe: "Recipe",
    objective: Objective,
    names: list[str],
    stats: dict[str, Any],
    groups: Any,
    masks: dict[str, Any],
    slices: dict[str, Any],
    targets: list[Any],
    predictions: dict[str, Any],
    inputs: list[Any],
) -> dict[str, Any]:
    def describe_slice(mask: Any) -> dict[str, Any]:
        """What each model reaches on a slice, and between what bounds."""
        intervals = {
            model: _compute_intervals(recipe, objective, names, stats[model][mask], groups[mask])
            for model in ("challenger", "champion")
            if model in stats
        }
        chief = {
            model: model_intervals[resampling.slice_metric(recipe.metric, model_intervals)]
            for model, model_intervals in intervals.items()
        }
        return {
            "challenger": None,
            "champion": None,
            **{model: interval[0] for model, interval in chief.items()},
            "intervals": chief,
        }

    def judge_model(model: str) -> dict[str, Any] | None:
        if model not in stats:
            return None
        pairs = objective.pair_labels(targets, predictions[model]) if objective.LABELED else None
        return _summarize_model(recipe, objective, names, stats[model], groups, masks, pairs)

    return {
        "metric": recipe.metric,
        "names": names,
        "rows": {name: int(mask.sum()) for name, mask in masks.items()},
        "challenger": judge_model("challenger"),
        "champion": judge_model("champion"),
        "leaked": int((~masks["test_clean"]).sum()),
        "slice_metric": resampling.slice_metric(recipe.metric, objective.METRICS),
        "slices": {name: {"rows": int(mask.sum()), **describe_slice(mask)} for name, mask in slices.items()},
        "changed": _list_changed_rows(objective, inputs, targets, predictions),
        "samples": excerpts.select_excerpts(objective, inputs, targets, predictions),
        "gallery": thumbnails.build_gallery(objective, inputs, targets, predictions),
    }


def _summarize_model(
    recipe: "Recipe", objective: Objective, names: list[str], stats: Any, groups: Any, masks: dict[str, Any], pairs: Any
) -> dict[str, Any]:
    sums = {name: stats[mask].sum(0, dtype="float64") for name, mask in masks.items() if mask.any()}
    values = {name: objective.compute_metrics(metric_sums, names) for name, metric_sums in sums.items()}
    return {
        "metrics": {
            name: {key: _finite_or_none(value) for key, value in metrics.items()} for name, metrics in values.items()
        },
        "intervals": _compute_intervals(recipe, objective, names, stats, groups),
        "class_intervals": _compute_class_intervals(recipe, objective, names, stats, groups),
        **objective.summarize_classes(sums["test"], names),
        "confusion": _count_confusion(*pairs) if pairs else {},
    }


def _compute_intervals(
    recipe: "Recipe", objective: Objective, names: list[str], stats: Any, groups: Any
) -> dict[str, Any]:
    """Of each metric: estimate, low, high."""
    intervals = resampling.bootstrap_intervals(
        sum_by_group(stats, groups),
        lambda sums: objective.compute_metrics(sums, names),
        recipe.evaluation.bootstrap,
        recipe.evaluation.gate.confidence,
        recipe.training.seed,
    )
    return {key: [_finite_or_none(bound) for bound in triple] for key, triple in intervals.items()}


def _compute_class_intervals(
    recipe: "Recipe", objective: Objective, names: list[str], stats: Any, groups: Any
) -> dict[str, Any]:
    """Low and high of the F1 of each class that has rows, from the same resamples as the other intervals."""
    rules = recipe.evaluation
    per_class = objective.summarize_classes(resampling.sum_rows(stats), names)["per_class"]
    if not per_class:
        return {}
    sums = resampling.bootstrap_sums(sum_by_group(stats, groups), rules.bootstrap, recipe.training.seed)
    drawn = [
        [class_scores["f1"] for class_scores in objective.summarize_classes(resample, names)["per_class"].values()]
        for resampled_sums in sums
        for resample in resampled_sums
    ]
    tail = (1 - rules.gate.confidence) / 2
    bounds = np.quantile(drawn, [tail, 1 - tail], axis=0).T.tolist()
    return {name: bound for (name, scores), bound in zip(per_class.items(), bounds, strict=True) if scores["support"]}


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
    """Rows that one model has right and the other wrong, as many of either kind as the report can show."""
    if "champion" not in predictions or not objective.LABELED:
        return []
    kinds: dict[str, list[dict[str, Any]]] = {"broken": [], "fixed": []}
    for input_value, target, old, new in zip(
        inputs, targets, predictions["champion"], predictions["challenger"], strict=True
    ):
        (_, before) = objective.pair_labels([target], [old])
        (_, after) = objective.pair_labels([target], [new])
        true_labels = objective.list_labels([target])
        if (before == true_labels) != (after == true_labels):
            displayed_input = (
                thumbnails.make_thumbnail(input_value) if objective.shows_pictures else _as_text(input_value)
            )
            row = {
                "input": displayed_input,
                "target": _as_text(true_labels),
                "champion": _as_text(before),
                "challenger": _as_text(after),
            }
            kinds["fixed" if after == true_labels else "broken"].append(row)
    return [{**row, "kind": kind} for kind, rows in kinds.items() for row in rows[: SHOWN // 2]]


def _as_text(value: Any) -> str:
    """An input or a target in words; the parts of an input of several are told apart by a line."""
    if isinstance(value, tuple):
        return " | ".join(map(_as_text, value))
    return (value if isinstance(value, str) else " ".join(value))[:500]


def _write_sample(
    path: Path, objective: Objective, predictor: Any, inputs: list[Any], predictions: list[dict[str, Any]]
) -> None:
    sample_size = SAMPLE if not objective.ASSESSED else FEW
    step = max(1, len(inputs) // sample_size)
    inputs = inputs[::step][:sample_size]
    predictions = predictions[::step][:sample_size]
    if objective.ASSESSED:  # what was judged is not what is served
        predictions = predictor.predict(inputs)
    role = objective.INPUTS[0] if len(objective.INPUTS) == 1 else list(objective.INPUTS)
    write_json(path, {"role": role, "inputs": inputs, "predictions": predictions})
