"""Challenger and champion, scored on the same sealed rows in the same run: the evidence that the gate reads."""

import logging
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.data import label_names as relabel
from evertune.data import thumbnails
from evertune.data.columns.strings import same
from evertune.errors import DataError
from evertune.evaluation import excerpts, robustness
from evertune.evaluation import slices as slicing
from evertune.objectives import cells, module, shows_pictures
from evertune.records import Candidate, Evaluation, file_digest, plain
from evertune.runtime import malloc as memory
from evertune.runtime.files import read_json, write_json
from evertune.serving import bundle
from evertune.statistics import resampling as statistics
from evertune.statistics.clusters import summed

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


@memory.kept()
def evaluate(
    recipe: "Recipe", candidate: Candidate, test: "pa.Table", leaked: set[str], champion: Path | None,
    champion_version: int | None, *, problem: str | None = None,
) -> Evaluation:  # fmt: skip
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
    start, objective, folder = time.perf_counter(), module(recipe.objective.type), Path(candidate.run_folder)
    inputs, targets = cells(test, objective.INPUTS), cells(test, [objective.TARGET])
    challenger = bundle.predictor(Path(candidate.bundle))
    predictions = {"challenger": _said(objective, challenger, inputs, targets)}
    since, theirs, taught, failure = _champions(objective, champion, inputs, targets)
    predictions |= {"champion": relabel.predictions(theirs, recipe)} if theirs is not None else {}
    problem = f"the champion, version {champion_version}, cannot be read: {failure}" if failure else problem
    names = _names(objective, candidate, targets, predictions)
    stats = _statistics(objective, targets, predictions, names)
    masks = _masks(test, leaked, since, _untaught(taught, recipe, objective, targets))
    slices = slicing.slices(recipe, objective, inputs, targets, test, names, since)
    groups = np.unique(test.column("component").to_numpy(), return_inverse=True)[1]  # are right or wrong together
    _write_evidence(folder / EVIDENCE, stats, masks, slices, names, groups)
    details = _details(recipe, objective, names, stats, groups, masks, slices, targets, predictions, inputs)
    details |= robustness.told(recipe, objective, Path(candidate.bundle), champion, inputs, targets, predictions)
    write_json(folder / DETAILS, details)
    _write_sample(folder / PARITY, challenger, inputs, predictions["challenger"])
    return Evaluation(
        metrics=details["challenger"]["metrics"], champion_version=champion_version,
        champion_metrics=(details["champion"] or {"metrics": {}})["metrics"], leaked=details["leaked"],
        evidence=str(folder / EVIDENCE), details=str(folder / DETAILS),
        seconds=time.perf_counter() - start, problem=problem,
    )  # fmt: skip


def scored(rows: "pa.Table", window: int | None, since: int | None) -> Any:
    """(rows,) which rows of a snapshot are scored: the test rows that are new to the champion, and the newest others.

    Args:
        rows: in the order in which they came, with `batch` and `split`.
        window: how many others. Default: all.
        since: newest batch that the champion knew. Default: there is none, and every row is another.
    """
    test = same(rows["split"], "test")
    if window is None:
        return test
    known = np.flatnonzero(test & (rows["batch"].to_numpy() <= since)) if since is not None else np.flatnonzero(test)
    test[known[: max(0, len(known) - window)]] = False
    return test


def kept(folder: Path, key: str) -> Evaluation | None:
    """The evaluation that an earlier process wrote under this key, if its files are as they were."""
    found = read_json(folder / KEPT)
    if found is None or found["key"] != key or found["files"] != _digests(folder):
        return None
    return Evaluation(**found["evaluation"])


def keep(folder: Path, key: str, evaluation: Evaluation) -> None:
    """Note that the evaluation is done, for a process that goes on after a crash."""
    write_json(folder / KEPT, {"key": key, "files": _digests(folder), "evaluation": plain(evaluation)})


def _digests(folder: Path) -> dict[str, str | None]:
    files = [folder / name for name in FILES]
    return {file.name: file_digest(file) if file.is_file() else None for file in files}


def _said(objective: Any, predictor: Any, inputs: list[Any], targets: list[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = predictor.assess(inputs, targets) if objective.ASSESSED else predictor.predict(inputs)
    return found


def _champions(
    objective: Any, folder: Path | None, inputs: list[Any], targets: list[Any]
) -> tuple[int, list[dict[str, Any]] | None, list[str] | None, str]:
    """The newest batch that the champion knows, its predictions and its labels, and why there are none."""
    if folder is None:
        return 0, None, None, ""
    try:
        since, labels = int(bundle.card(folder)["snapshot"]["batch"]), bundle.labels(folder)
        return since, _said(objective, bundle.predictor(folder), inputs, targets), labels, ""
    except Exception as error:  # its card and code may be of any age: whatever fails, the gate holds
        return 0, None, None, f"{type(error).__name__}: {error}"


def _statistics(objective: Any, targets: list[Any], predictions: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Of each model, and of always giving the commonest label, which a first version must beat."""
    scored = {**predictions, "majority": objective.majority(targets)}
    return {model: objective.statistics(targets, found, names) for model, found in scored.items()}


def _names(objective: Any, candidate: Candidate, targets: list[Any], predictions: dict[str, Any]) -> list[str]:
    """The challenger's labels in their order, then those that only the champion or the rows know."""
    if not objective.LABELED:
        return []
    known = dict.fromkeys(candidate.tokens.snapshot.labels)
    for found in predictions.values():
        known |= dict.fromkeys(sorted(set(objective.label_values([one[objective.TARGET] for one in found]))))
    return list(known | dict.fromkeys(sorted(set(objective.label_values(targets)))))


def _masks(test: "pa.Table", leaked: set[str], since: int, apart: Any) -> dict[str, Any]:
    """Both models are compared on `fresh` and `history`; rows with a label that the champion does not know are apart.

    Args:
        since: newest batch that the champion knew; apart: (rows,) see `_untaught`.
    """
    clean = np.array([name not in leaked for name in test.column("row_version").to_pylist()])
    fresh = test.column("batch").to_numpy() > since
    return {
        "test": np.ones(len(test), dtype=bool),
        "test_clean": clean,
        "fresh": clean & fresh & ~apart,
        "history": clean & ~fresh & ~apart,
        "new_labels": clean & apart,
    }


def _untaught(taught: list[str] | None, recipe: "Recipe", objective: Any, targets: list[Any]) -> Any:
    """(rows,) which rows have a label that is not among those that the champion was taught; None: there is none."""
    if taught is None or not objective.LABELED:
        return np.zeros(len(targets), dtype=bool)
    known = set(relabel.names(taught, recipe.contract.label.rename))
    return np.array([not known.issuperset(objective.label_values([target])) for target in targets])


def _write_evidence(
    path: Path, stats: dict[str, Any], masks: dict[str, Any], slices: dict[str, Any], names: list[str], groups: Any
) -> None:
    with path.open("wb") as file:
        np.savez_compressed(
            file, names=np.array(names), groups=groups, slice_names=np.array(list(slices), dtype=str),
            slices=np.array(list(slices.values()), dtype=bool).reshape(len(slices), len(masks["test"])),
            **{f"stats_{model}": values for model, values in stats.items()},
            **{f"mask_{name}": mask for name, mask in masks.items()},
        )  # fmt: skip


def _details(
    recipe: "Recipe", objective: Any, names: list[str], stats: dict[str, Any], groups: Any, masks: dict[str, Any],
    slices: dict[str, Any], targets: list[Any], predictions: dict[str, Any], inputs: list[Any],
) -> dict[str, Any]:  # fmt: skip
    def value(mask: Any) -> dict[str, Any]:
        """What each model reaches on a slice, and between what bounds."""
        found = {model: _intervals(recipe, objective, names, stats[model][mask], groups[mask])
                 for model in ("challenger", "champion") if model in stats}  # fmt: skip
        chief = {model: one[statistics.slice_metric(recipe.metric, one)] for model, one in found.items()}
        return {"challenger": None, "champion": None, **{model: one[0] for model, one in chief.items()},
                "intervals": chief}  # fmt: skip

    def judged(model: str) -> dict[str, Any] | None:
        if model not in stats:
            return None
        pairs = objective.pairs(targets, predictions[model]) if objective.LABELED else None
        return _judged(recipe, objective, names, stats[model], groups, masks, pairs)

    return {
        "metric": recipe.metric, "names": names, "rows": {name: int(mask.sum()) for name, mask in masks.items()},
        "challenger": judged("challenger"), "champion": judged("champion"), "leaked": int((~masks["test_clean"]).sum()),
        "slice_metric": statistics.slice_metric(recipe.metric, objective.METRICS),
        "slices": {
            name: {"rows": int(mask.sum()), **value(mask)} for name, mask in slices.items()
        },
        "changed": _changed(objective, inputs, targets, predictions),
        "samples": excerpts.excerpts(objective, inputs, targets, predictions),
        "gallery": thumbnails.gallery(objective, inputs, targets, predictions),
    }  # fmt: skip


def _judged(
    recipe: "Recipe", objective: Any, names: list[str], stats: Any, groups: Any, masks: dict[str, Any], pairs: Any
) -> dict[str, Any]:
    sums = {name: stats[mask].sum(0, dtype="float64") for name, mask in masks.items() if mask.any()}
    values = {name: objective.metrics(part, names) for name, part in sums.items()}
    return {
        "metrics": {name: {key: _finite(one) for key, one in found.items()} for name, found in values.items()},
        "intervals": _intervals(recipe, objective, names, stats, groups),
        "class_intervals": _class_intervals(recipe, objective, names, stats, groups),
        **objective.report(sums["test"], names),
        "confusion": _confusion(*pairs) if pairs else {},
    }


def _intervals(recipe: "Recipe", objective: Any, names: list[str], stats: Any, groups: Any) -> dict[str, Any]:
    """Of each metric: estimate, low, high."""
    found = statistics.interval(
        summed(stats, groups), lambda part: objective.metrics(part, names), recipe.evaluation.bootstrap,
        recipe.evaluation.gate.confidence, recipe.training.seed,
    )  # fmt: skip
    return {key: [_finite(one) for one in triple] for key, triple in found.items()}


def _class_intervals(recipe: "Recipe", objective: Any, names: list[str], stats: Any, groups: Any) -> dict[str, Any]:
    """Low and high of the F1 of each class that has rows, from the same resamples as the other intervals."""
    rules, judged = recipe.evaluation, objective.report(statistics.totals(stats), names)["per_class"]
    if not judged:
        return {}
    sums = statistics.bootstrap_sums(summed(stats, groups), rules.bootstrap, recipe.training.seed)
    drawn = [[one["f1"] for one in objective.report(each, names)["per_class"].values()] for part in sums
             for each in part]  # fmt: skip
    tail = (1 - rules.gate.confidence) / 2
    bounds = np.quantile(drawn, [tail, 1 - tail], axis=0).T.tolist()
    return {name: bound for (name, one), bound in zip(judged.items(), bounds, strict=True) if one["support"]}


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _confusion(true: list[str], guess: list[str]) -> dict[str, Any]:
    kept = [name for name, _ in Counter(true + guess).most_common(CONFUSED)]
    counts = Counter(zip(true, guess, strict=True))
    return {"names": sorted(kept), "counts": [[counts[row, column] for column in sorted(kept)] for row in sorted(kept)]}


def _changed(
    objective: Any, inputs: list[Any], targets: list[Any], predictions: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows that one model has right and the other wrong, as many of either kind as the report can show."""
    if "champion" not in predictions or not objective.LABELED:
        return []
    kinds: dict[str, list[dict[str, Any]]] = {"broken": [], "fixed": []}
    for one, target, old, new in zip(inputs, targets, predictions["champion"], predictions["challenger"], strict=True):
        (_, before), (_, after) = objective.pairs([target], [old]), objective.pairs([target], [new])
        wanted = objective.label_values([target])
        if (before == wanted) != (after == wanted):
            shown = thumbnails.thumbnail(one) if shows_pictures(objective) else _text(one)
            row = {"input": shown, "target": _text(wanted), "champion": _text(before), "challenger": _text(after)}
            kinds["fixed" if after == wanted else "broken"].append(row)
    return [{**row, "kind": kind} for kind, rows in kinds.items() for row in rows[: SHOWN // 2]]


def _text(value: Any) -> str:
    """An input or a target in words; the parts of an input of several are told apart by a line."""
    if isinstance(value, tuple):
        return " | ".join(map(_text, value))
    return (value if isinstance(value, str) else " ".join(value))[:500]


def _write_sample(path: Path, predictor: Any, inputs: list[Any], predictions: list[dict[str, Any]]) -> None:
    objective = predictor.objective
    many = SAMPLE if not objective.ASSESSED else FEW
    step = max(1, len(inputs) // many)
    inputs, predictions = inputs[::step][:many], predictions[::step][:many]
    if objective.ASSESSED:  # what was judged is not what is served
        predictions = predictor.predict(inputs)
    role = objective.INPUTS[0] if len(objective.INPUTS) == 1 else list(objective.INPUTS)
    write_json(path, {"role": role, "inputs": inputs, "predictions": predictions})
