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
from evertune.data import label_names as relabel
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.errors import DataError
from evertune.evaluation import evaluate as evaluation
from evertune.objectives import cells, module, no_shares
from evertune.records import Candidate, Decision, Evaluation, Snapshot, Tokens, digest
from evertune.registry.decisions import promotion
from evertune.registry.tracking import runs as tracking
from evertune.registry.versions import versions as models
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.statistics import resampling as statistics
from evertune.statistics.paired_tests import amount, kind_of

__all__ = ["METHODS", "Limits", "Method", "Result", "compress"]
logger = logging.getLogger(__name__)
ROUNDS, TIMED = 7, 256  # passes of each model over so many rows, in turn


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


def compress(recipe: Recipe, home: Home, version: int, method: Method, limits: Limits, sparsity: float = 0.5) -> Result:
    """Make a variant of a version, compare the two, register it, and let it be champion if it keeps within the limits.

    The champion's place is given to a variant of the champion alone; with `registry.promote: ask` it waits.

    Raises:
        ConfigError: the model does not go with the method.
        DataError: there are no test rows.
        RegistryError: MLflow refused, or the champion was moved meanwhile.
    """
    original = models.bundle_of(home, recipe.registered_name, version)
    key = digest(bundle.digest(original), method, sparsity if method == "prune" else None, "variant 1")
    folder = home.runs / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    made = variants.write(original, folder / "bundle", method, sparsity)
    tokens = Tokens((), key, relabel.snapshot(corpus.snapshot(home), recipe), {}, 0)
    learned = Tokens((), key, _learned(recipe, home, version, original), {}, 0)
    run = tracking.begin(recipe, home, learned, folder)
    with tracking.failing(home, run.run_id):
        run.tag(of=version)
        candidate = Candidate(str(folder / "bundle"), run.run_id, str(folder), made, tokens, 0, 0.0, 0.0, 0.0)
        champion = models.champion(home, recipe.registered_name)
        report, rows, agreement = _compared(recipe, home, candidate, original, version)
        seconds = _seconds(original, folder / "bundle", rows)
        sizes = (variants.size(original), variants.size(folder / "bundle"))
        decision, drop = _decision(recipe, report, limits, agreement, seconds)
        if version != champion and decision.verdict == "promoted":
            decision = Decision("held", f"{decision.reason}; version {version} is not the champion", decision.evidence)
        evidence = ({"test": "variant", "passed": decision.verdict == "promoted", "on": "test", "rows": len(rows),
                     "metric": recipe.metric, "estimate": -drop[0], "low": -drop[1], "agreement": agreement,
                     "bytes": sizes, "seconds": seconds},)  # fmt: skip
        decision = Decision(decision.verdict, f"{method} variant of version {version}: {decision.reason}", evidence)
        number = models.register(recipe, home, replace(candidate, tokens=learned), rows[:3])
        models.tag(home, recipe.registered_name, number, variant=f"{method} of version {version}")
        met = Evaluation(**{**asdict(report), "champion_version": champion})
        decision = promotion.settle(recipe, home, candidate, met, decision, number)
        _record(run, recipe, report, sizes, seconds, agreement)
    both = {name: (report.champion_metrics["test"][name], value) for name, value in report.metrics["test"].items()}
    return Result(number, version, method, decision.verdict, decision.reason, recipe.metric, both, agreement, drop,
                  sizes, (1000 * seconds[0], 1000 * seconds[1]))  # fmt: skip


def _learned(recipe: Recipe, home: Home, version: int, original: Path) -> Snapshot:
    """The snapshot that the original was trained on, as its record has it: its variant has learned no other rows."""
    known = models.facts(home, recipe.registered_name, version)
    model, batch = known["model"], bundle.card(original)["snapshot"]["batch"]
    labels = tuple(bundle.labels(original))
    return Snapshot(int(model["snapshot"]), model["fingerprint"], known["run"]["rows"], labels, int(batch))


def _compared(
    recipe: Recipe, home: Home, candidate: Candidate, original: Path, version: int
) -> tuple[Evaluation, list[Any], float | None]:
    """Both on the clean test rows: the evaluation, the rows' inputs, and the share of equal labels."""
    import pyarrow as pa

    objective = module(recipe.objective.type)
    every = corpus.rows(home, candidate.tokens.snapshot.version)
    leaked = set(splits.leaked(every).to_pylist())
    test = relabel.rows(every.filter(pa.array(evaluation.scored(every, recipe.evaluation.window, None))), recipe)
    if not len(test):
        raise DataError("no test rows, so nothing to compare a variant on; add rows")
    report = evaluation.evaluate(recipe, candidate, test, leaked, original, version)
    inputs = cells(test, objective.INPUTS)
    if not objective.LABELED:
        return report, inputs, None
    said = [bundle.predictor(place).predict(inputs) for place in (original, Path(candidate.bundle))]
    labels = [[str(one[objective.TARGET]) for one in found] for found in said]
    return report, inputs, float(np.mean([one == other for one, other in zip(*labels, strict=True)]))


def _seconds(original: Path, variant: Path, inputs: Sequence[Any]) -> tuple[float, float]:
    """Median seconds of each over the same rows, in turn, so that a busy machine slows both."""
    step = max(1, len(inputs) // TIMED)
    some = list(inputs)[::step][:TIMED]
    both = [bundle.predictor(place) for place in (original, variant)]
    took: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 1):
        for place, predictor in enumerate(both):
            start = time.perf_counter()
            predictor.predict(some)
            if number:  # the first pass makes kernels
                took[place].append(time.perf_counter() - start)
    return summary.median(took[0]), summary.median(took[1])


def _decision(
    recipe: Recipe, report: Evaluation, limits: Limits, agreement: float | None, seconds: tuple[float, float]
) -> tuple[Decision, tuple[float, float]]:
    """Whether the variant keeps within the limits; the loss of the metric and its upper bound."""
    objective, rules = module(recipe.objective.type), recipe.evaluation
    sign = -1 if recipe.metric in objective.LOWER_IS_BETTER else 1
    kind = kind_of(recipe.metric, no_shares(objective))
    with np.load(report.evidence) as evidence:
        names, clean = evidence["names"].tolist(), evidence["mask_test_clean"]
        found = statistics.paired_difference(
            evidence["stats_challenger"][clean], evidence["stats_champion"][clean],
            lambda sums: sign * objective.metrics(sums, names)[recipe.metric], groups=evidence["groups"][clean],
            resamples=rules.bootstrap, seed=recipe.training.seed, alpha=1 - rules.gate.confidence,
            harm_alpha=1 - rules.gate.confidence, kind=kind,
        )  # fmt: skip
    drop = (-float(found.estimate), -float(found.low))
    speedup = seconds[0] / seconds[1]
    lost, worst, allowed = (amount(size, recipe.metric, kind, 2) for size in (*drop, limits.drop))
    words = f"{recipe.metric} falls by {lost} (at worst {worst}), {speedup:.2f} times as fast"
    words += "" if agreement is None else f", {agreement:.2%} of labels agree"
    failed = [
        *([f"a loss of {allowed} is allowed"] if not drop[1] <= limits.drop else []),
        *([f"{limits.agreement:.0%} must agree"] if agreement is not None and agreement < limits.agreement else []),
        *([f"{limits.speedup:g} times is asked"] if speedup < limits.speedup else []),
    ]
    return Decision("held" if failed else "promoted", "; ".join([words, *failed]), ()), drop


def _record(
    run: tracking.Run, recipe: Recipe, report: Evaluation, sizes: tuple[int, int], seconds: tuple[float, float],
    agreement: float | None,
) -> None:  # fmt: skip
    values = {f"test_{name}": value for name, value in report.metrics["test"].items() if value is not None}
    values |= {"variant_bytes": sizes[1], "variant_speedup": seconds[0] / seconds[1]}
    values |= {} if agreement is None else {"variant_agreement": agreement}
    run.log(values, 0)
    run.recipe(recipe)
    run.artifact(Path(report.details), "report")
    run.finish()
    logger.info("the variant has %.1f MB, the original %.1f MB", sizes[1] / 1e6, sizes[0] / 1e6)
