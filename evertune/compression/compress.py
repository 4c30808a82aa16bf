"""A smaller or faster variant of a registered version: made, compared with it on the same rows, and registered."""

import logging
import statistics as summary
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evertune.compression import variants
from evertune.compression.variants import METHODS, Method
from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.corpus import transactions
from evertune.data.splits import assign
from evertune.errors import DataError
from evertune.evaluation import evaluate
from evertune.objectives import extract_cells, load_objective
from evertune.records import Candidate, Decision, Evaluation, Snapshot, Tokens, compute_digest
from evertune.registry.decisions import promotion
from evertune.registry.tracking import runs
from evertune.registry.versions import versions
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.statistics import resampling
from evertune.statistics.paired_tests import find_kind, format_amount

__all__ = ["METHODS", "Limits", "Method", "Result", "compress_version"]
logger = logging.getLogger(__name__)
ROUNDS = 7  # passes of each model over so many rows, in turn
TIMED = 256


@dataclass(frozen=True)
class Limits:
    """What a variant must keep.

    Args:
        agreement: least share of equal labels; drop: largest loss of the recipe's metric, proven by its interval.
        speedup: least ratio of the original's seconds to the variant's; 0 asks for none.
    """

    agreement: float = 0.97
    drop: float = 0.01
    speedup: float = 0.0


@dataclass(frozen=True)
class Result:
    """What compressing found.

    Args:
        version: of the variant, of: that it was made from.
        agreement: share of equal labels; None where the objective has none.
        drop: loss of the metric, and the most that it may be at the gate's confidence.
        bytes, milliseconds: of the model and for 256 rows, (original, variant).
    """

    version: int
    of: int
    method: str
    verdict: str
    reason: str
    metric: str
    metrics: dict[str, tuple[float, float]]
    agreement: float | None
    drop: tuple[float, float]
    bytes: tuple[int, int]
    milliseconds: tuple[float, float]


def compress_version(
    recipe: Recipe, home: Home, version: int, method: Method, limits: Limits, sparsity: float = 0.5
) -> Result:
    """Make a variant of a version, compare the two, register it, and let it be champion if it keeps within the limits.

    The champion's place is given to a variant of the champion alone; with `registry.promote: ask` it waits.

    Raises:
        ConfigError: the model does not go with the method.
        DataError: there are no test rows.
        RegistryError: MLflow refused, or the champion was moved meanwhile.
    """
    original = versions.fetch_bundle(home, recipe.registered_name, version)
    key = compute_digest(bundle.compute_digest(original), method, sparsity if method == "prune" else None, "variant 1")
    folder = home.runs / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    variant_digest = variants.write_variant(original, folder / "bundle", method, sparsity)
    tokens = Tokens((), key, label_names.rename_snapshot(transactions.take_snapshot(home), recipe), {}, 0)
    training_tokens = Tokens((), key, _read_training_snapshot(recipe, home, version, original), {}, 0)
    run = runs.open_run(recipe, home, training_tokens, folder)
    with runs.fail_on_error(home, run.run_id):
        run.set_tags(of=version)
        candidate = Candidate(str(folder / "bundle"), run.run_id, str(folder), variant_digest, tokens, 0, 0.0, 0.0, 0.0)
        champion = versions.find_champion(home, recipe.registered_name)
        report, rows, agreement = _compare_on_test(recipe, home, candidate, original, version)
        seconds = _measure_seconds(original, folder / "bundle", rows)
        sizes = (variants.measure_size(original), variants.measure_size(folder / "bundle"))
        decision, drop = _decide_promotion(recipe, report, limits, agreement, seconds)
        if version != champion and decision.verdict == "promoted":
            decision = Decision("held", f"{decision.reason}; version {version} is not the champion", decision.evidence)
        evidence = (
            {
                "test": "variant",
                "passed": decision.verdict == "promoted",
                "on": "test",
                "rows": len(rows),
                "metric": recipe.metric,
                "estimate": -drop[0],
                "low": -drop[1],
                "agreement": agreement,
                "bytes": sizes,
                "seconds": seconds,
            },
        )
        decision = Decision(decision.verdict, f"{method} variant of version {version}: {decision.reason}", evidence)
        number = versions.register_version(recipe, home, replace(candidate, tokens=training_tokens), rows[:3])
        versions.set_tags(home, recipe.registered_name, number, variant=f"{method} of version {version}")
        champion_report = Evaluation(**{**asdict(report), "champion_version": champion})
        decision = promotion.apply_decision(recipe, home, candidate, champion_report, decision, number)
        _record_run(run, recipe, report, sizes, seconds, agreement)
    metrics = {name: (report.champion_metrics["test"][name], value) for name, value in report.metrics["test"].items()}
    return Result(
        number,
        version,
        method,
        decision.verdict,
        decision.reason,
        recipe.metric,
        metrics,
        agreement,
        drop,
        sizes,
        (1000 * seconds[0], 1000 * seconds[1]),
    )


def _read_training_snapshot(recipe: Recipe, home: Home, version: int, original: Path) -> Snapshot:
    """The snapshot that the original was trained on, as its record has it: its variant has learned no other rows."""
    facts = versions.describe_version(home, recipe.registered_name, version)
    model = facts["model"]
    batch = bundle.read_card(original)["snapshot"]["batch"]
    labels = tuple(bundle.read_labels(original))
    return Snapshot(int(model["snapshot"]), model["fingerprint"], facts["run"]["rows"], labels, int(batch))


def _compare_on_test(
    recipe: Recipe, home: Home, candidate: Candidate, original: Path, version: int
) -> tuple[Evaluation, list[Any], float | None]:
    """Both on the clean test rows: the evaluation, the rows' inputs, and the share of equal labels."""
    import pyarrow as pa

    objective = load_objective(recipe.objective.type)
    corpus_rows = transactions.read_rows(home, candidate.tokens.snapshot.version)
    leaked = set(assign.find_leaked_rows(corpus_rows).to_pylist())
    test = label_names.rename_rows(
        corpus_rows.filter(pa.array(evaluate.select_scored_rows(corpus_rows, recipe.evaluation.window, None))), recipe
    )
    if not len(test):
        raise DataError("no test rows, so nothing to compare a variant on; add rows")
    report = evaluate.evaluate_models(recipe, candidate, test, leaked, original, version)
    inputs = extract_cells(test, objective.INPUTS)
    if not objective.LABELED:
        return report, inputs, None
    predictions = [bundle.load_predictor(folder).predict(inputs) for folder in (original, Path(candidate.bundle))]
    labels = [[str(prediction[objective.TARGET]) for prediction in answers] for answers in predictions]
    return report, inputs, float(np.mean([label == other for label, other in zip(*labels, strict=True)]))


def _measure_seconds(original: Path, variant: Path, inputs: Sequence[Any]) -> tuple[float, float]:
    """Median seconds of each over the same rows, in turn, so that a busy machine slows both."""
    step = max(1, len(inputs) // TIMED)
    sample = list(inputs)[::step][:TIMED]
    predictors = [bundle.load_predictor(folder) for folder in (original, variant)]
    durations: tuple[list[float], list[float]] = ([], [])
    for round_number in range(ROUNDS + 1):
        for index, predictor in enumerate(predictors):
            start = time.perf_counter()
            predictor.predict(sample)
            if round_number:  # the first pass makes kernels
                durations[index].append(time.perf_counter() - start)
    return summary.median(durations[0]), summary.median(durations[1])


def _decide_promotion(
    recipe: Recipe, report: Evaluation, limits: Limits, agreement: float | None, seconds: tuple[float, float]
) -> tuple[Decision, tuple[float, float]]:
    """Whether the variant keeps within the limits; the loss of the metric and its upper bound."""
    objective = load_objective(recipe.objective.type)
    rules = recipe.evaluation
    sign = -1 if recipe.metric in objective.LOWER_IS_BETTER else 1
    kind = find_kind(recipe.metric, objective.ABSOLUTE_METRICS)
    with np.load(report.evidence) as evidence:
        names = evidence["names"].tolist()
        clean = evidence["mask_test_clean"]
        difference = resampling.paired_difference(
            evidence["stats_challenger"][clean],
            evidence["stats_champion"][clean],
            lambda sums: sign * objective.compute_metrics(sums, names)[recipe.metric],
            groups=evidence["groups"][clean],
            resamples=rules.bootstrap,
            seed=recipe.training.seed,
            alpha=1 - rules.gate.confidence,
            harm_alpha=1 - rules.gate.confidence,
            kind=kind,
        )
    drop = (-float(difference.estimate), -float(difference.low))
    speedup = seconds[0] / seconds[1]
    loss_text, worst_text, allowed_text = (format_amount(size, recipe.metric, kind, 2) for size in (*drop, limits.drop))
    words = f"{recipe.metric} falls by {loss_text} (at worst {worst_text}), {speedup:.2f} times as fast"
    words += "" if agreement is None else f", {agreement:.2%} of labels agree"
    failures = [
        *([f"a loss of {allowed_text} is allowed"] if not drop[1] <= limits.drop else []),
        *([f"{limits.agreement:.0%} must agree"] if agreement is not None and agreement < limits.agreement else []),
        *([f"{limits.speedup:g} times is asked"] if speedup < limits.speedup else []),
    ]
    return Decision("held" if failures else "promoted", "; ".join([words, *failures]), ()), drop


def _record_run(
    run: runs.Run,
    recipe: Recipe,
    report: Evaluation,
    sizes: tuple[int, int],
    seconds: tuple[float, float],
    agreement: float | None,
) -> None:
    values = {f"test_{name}": value for name, value in report.metrics["test"].items() if value is not None}
    values |= {"variant_bytes": sizes[1], "variant_speedup": seconds[0] / seconds[1]}
    values |= {} if agreement is None else {"variant_agreement": agreement}
    run.log_metrics(values, 0)
    run.log_recipe(recipe)
    run.log_artifact(Path(report.details), "report")
    run.finish_run()
    logger.info("the variant has %.1f MB, the original %.1f MB", sizes[1] / 1e6, sizes[0] / 1e6)
