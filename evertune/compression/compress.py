"""Make a smaller or faster variant of a registered version, compare both on the same rows, and register it."""

import logging
import statistics as summary
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from evertune.compression import variants
from evertune.compression.variants import METHODS, Method
from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.corpus import transactions
from evertune.data.splits import assign
from evertune.errors import DataError
from evertune.evaluation import evaluate
from evertune.objectives import Input, extract_cells, load_objective
from evertune.records import Candidate, Decision, Evaluation, Evidence, Snapshot, Tokens, compute_digest
from evertune.registry.decisions import promotion
from evertune.registry.tracking import runs
from evertune.registry.versions import versions
from evertune.runtime.context import RunContext
from evertune.serving import bundle
from evertune.statistics import resampling
from evertune.statistics.paired_tests import find_kind, format_amount

__all__ = ["METHODS", "Limits", "Method", "Result", "compress_version"]
logger = logging.getLogger(__name__)
ROUNDS = 7  # timed passes of each model, in turn
TIMED = 256  # rows of a pass


@dataclass(frozen=True)
class Limits:
    """What a variant must keep.

    Args:
        agreement: smallest share of equal labels.
        drop: largest loss of the recipe's metric, proven by its confidence bound.
        speedup: smallest ratio of the original's seconds to the variant's; 0 for no limit.
    """

    agreement: float = 0.97
    drop: float = 0.01
    speedup: float = 0.0


@dataclass(frozen=True)
class Result:
    """The result of a compression; pairs are (original, variant).

    Args:
        version: of the variant.
        of: version of the original.
        method: of the compression.
        verdict: of the comparison.
        reason: of the verdict.
        metric: the recipe's metric.
        metrics: name -> values on the test rows.
        agreement: share of equal labels; None if the objective has no labels.
        drop: loss of the metric, and its upper bound at the gate's confidence.
        bytes: size of the models.
        milliseconds: time for 256 rows.
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
    context: RunContext, version: int, method: Method, limits: Limits, sparsity: float = 0.5
) -> Result:
    """Make a variant of a version, compare both, register the variant, and promote it if it keeps within the limits.

    Only a variant of the champion can be promoted; with `registry.promote: ask` it waits for approval.

    Args:
        context: the recipe and the home of its model.
        version: of the original.
        method: of the compression.
        limits: what the variant must keep.
        sparsity: share of weights that `prune` removes.
    Raises:
        ConfigError: the method does not support the model.
        DataError: there are no test rows.
        RegistryError: MLflow refused, or the champion was moved meanwhile.
    """
    original = versions.fetch_bundle(context.home, context.recipe.registered_name, version)
    key = compute_digest(bundle.compute_digest(original), method, sparsity if method == "prune" else None, "variant 1")
    folder = context.home.runs / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    variant_digest = variants.write_variant(original, folder / "bundle", method, sparsity)
    tokens = Tokens(
        (), key, label_names.rename_snapshot(transactions.take_snapshot(context.home), context.recipe), {}, 0
    )
    training_tokens = Tokens((), key, _read_training_snapshot(context, version, original), {}, 0)
    run = runs.open_run(context, training_tokens, folder)
    with runs.fail_on_error(context.home, run.run_id):
        run.set_tags(of=version)
        candidate = Candidate(str(folder / "bundle"), run.run_id, str(folder), variant_digest, tokens, 0, 0.0, 0.0, 0.0)
        champion = versions.find_champion(context.home, context.recipe.registered_name)
        report, rows, agreement = _compare_on_test(context, candidate, original, version)
        seconds = _measure_seconds(original, folder / "bundle", rows)
        sizes = (variants.measure_size(original), variants.measure_size(folder / "bundle"))
        decision, drop = _check_limits(context.recipe, report, limits, agreement, seconds)
        if version != champion and decision.verdict == "promoted":
            reason = f"{decision.reason} Version {version} is not the champion."
            decision = Decision("held", reason, decision.evidence)
        evidence: Evidence = {
            "test": "variant",
            "passed": decision.verdict == "promoted",
            "on": "test",
            "rows": len(rows),
            "metric": context.recipe.metric,
            "estimate": -drop[0],
            "low": -drop[1],
            "agreement": agreement,
            "bytes": sizes,
            "seconds": seconds,
        }
        reason = f"{method} variant of version {version}: {decision.reason}"
        decision = Decision(decision.verdict, reason, (evidence,))
        number = versions.register_version(context, replace(candidate, tokens=training_tokens), rows[:3])
        versions.set_tags(
            context.home, context.recipe.registered_name, number, variant=f"{method} of version {version}"
        )
        champion_report = Evaluation(**{**asdict(report), "champion_version": champion})
        decision = promotion.apply_decision(context, candidate, champion_report, decision, number)
        _record_run(run, context.recipe, report, sizes, seconds, agreement)
    metrics = {name: (report.champion_metrics["test"][name], value) for name, value in report.metrics["test"].items()}
    return Result(
        version=number,
        of=version,
        method=method,
        verdict=decision.verdict,
        reason=decision.reason,
        metric=context.recipe.metric,
        metrics=metrics,
        agreement=agreement,
        drop=drop,
        bytes=sizes,
        milliseconds=(1000 * seconds[0], 1000 * seconds[1]),
    )


def _read_training_snapshot(context: RunContext, version: int, original: Path) -> Snapshot:
    """Return the snapshot that the original, and so its variant, was trained on."""
    facts = versions.describe_version(context.home, context.recipe.registered_name, version)
    model = facts["model"]
    batch = bundle.read_card(original)["snapshot"]["batch"]
    labels = tuple(bundle.read_labels(original))
    number, fingerprint = cast(tuple[str, str], (model["snapshot"], model["fingerprint"]))  # fetched, so on record
    return Snapshot(int(number), fingerprint, facts["run"]["rows"], labels, int(batch))


def _compare_on_test(
    context: RunContext, candidate: Candidate, original: Path, version: int
) -> tuple[Evaluation, list[Input], float | None]:
    """Score both on the test rows: return the evaluation, the rows' inputs, and the share of equal labels."""
    import pyarrow as pa

    objective = context.objective
    corpus_rows = transactions.read_rows(context.home, candidate.tokens.snapshot.version)
    leaked = set(assign.find_leaked_rows(corpus_rows).to_pylist())
    is_scored = evaluate.select_scored_rows(corpus_rows, context.recipe.evaluation.window, None)
    test = label_names.rename_rows(corpus_rows.filter(pa.array(is_scored)), context.recipe)
    if not len(test):
        raise DataError("no test rows to compare a variant on; add rows")
    report = evaluate.evaluate_models(context.recipe, candidate, test, leaked, original, version)
    inputs = extract_cells(test, objective.INPUTS)
    if not objective.LABELED:
        return report, inputs, None
    predictions = [bundle.load_predictor(folder).predict(inputs) for folder in (original, Path(candidate.bundle))]
    labels = [[str(prediction[objective.TARGET]) for prediction in answers] for answers in predictions]
    return report, inputs, float(np.mean([label == other for label, other in zip(*labels, strict=True)]))


def _measure_seconds(original: Path, variant: Path, inputs: Sequence[Input]) -> tuple[float, float]:
    """Return the median seconds of each model over the same rows, measured in turn, so that load slows both."""
    step = max(1, len(inputs) // TIMED)
    sample = list(inputs)[::step][:TIMED]
    predictors = [bundle.load_predictor(folder) for folder in (original, variant)]
    durations: tuple[list[float], list[float]] = ([], [])
    for round_number in range(ROUNDS + 1):
        for index, predictor in enumerate(predictors):
            start = time.perf_counter()
            predictor.predict(sample)
            if round_number:  # the first pass compiles kernels
                durations[index].append(time.perf_counter() - start)
    return summary.median(durations[0]), summary.median(durations[1])


def _check_limits(
    recipe: Recipe, report: Evaluation, limits: Limits, agreement: float | None, seconds: tuple[float, float]
) -> tuple[Decision, tuple[float, float]]:
    """Decide whether the variant keeps within the limits; return also the loss of the metric and its upper bound."""
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
    loss_text = format_amount(drop[0], recipe.metric, kind, 2)
    bound_text = format_amount(drop[1], recipe.metric, kind, 2)
    measured = f"{recipe.metric} falls by {loss_text} (upper bound {bound_text}), {speedup:.2f} times as fast"
    if agreement is not None:
        measured += f", {agreement:.2%} of labels agree"
    failures = []
    if not drop[1] <= limits.drop:
        failures.append(f"maximum loss {format_amount(limits.drop, recipe.metric, kind, 2)}")
    if agreement is not None and agreement < limits.agreement:
        failures.append(f"minimum agreement {limits.agreement:.0%}")
    if speedup < limits.speedup:
        failures.append(f"minimum speedup {limits.speedup:g}")
    if not failures:
        return Decision("promoted", f"{measured}.", ()), drop
    return Decision("held", f"{measured}. Outside the limits: {', '.join(failures)}.", ()), drop


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
    if agreement is not None:
        values["variant_agreement"] = agreement
    run.log_metrics(values, 0)
    run.log_recipe(recipe)
    run.log_artifact(Path(report.details), "report")
    run.finish_run()
    logger.info("size of the variant: %.1f MB, of the original: %.1f MB", sizes[1] / 1e6, sizes[0] / 1e6)
