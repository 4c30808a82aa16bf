"""The gate's tests of what a model costs, and of whether a simple model would do; both only where the recipe asks."""

from collections.abc import Iterator, Mapping

from evertune.gate.hypothesis_tests import Case, Finding, build_evidence
from evertune.statistics.resampling import sum_rows

UNITS = {
    "size": "bytes on disk",
    "memory": "bytes of weights in memory",
    "latency": "time for a row",
    "training": "time of the training",
}


def judge_resources(case: Case) -> Iterator[Finding]:
    """Test what the challenger takes, over what the champion takes, against each maximum of the recipe."""
    if case.scored.champion is None:
        return
    for resource, maximum in case.rule.resources.items():
        ratio = case.ratios.get(resource)
        if ratio is None:
            message = f"evaluation.gate.resources: {resource} was not measured for both models. Evaluate again."
            yield Finding("inconclusive", message)
            continue
        passed = ratio <= maximum
        evidence = build_evidence(
            "resources", resource, len(case.scored.fresh), challenger=ratio, threshold=maximum, passed=passed
        )
        if passed:
            yield Finding("passed", "", evidence)
            continue
        message = f"Takes {ratio:.2f} times the champion's {UNITS[resource]} (maximum: {maximum:g})."
        yield Finding("harm", message, evidence)


def judge_baseline(case: Case) -> Iterator[Finding]:
    """Test whether the challenger is better than a simple model on the same rows, if the recipe asks for it."""
    if not case.rule.above_baseline:
        return
    value = case.baseline.get(case.metric)
    if value is None:
        message = f"evaluation.gate.above_baseline: the simple model's {case.metric} is not known. Evaluate again."
        yield Finding("inconclusive", message)
        return
    challenger = float(case.metrics(sum_rows(case.scored.challenger))[case.metric])
    sign = case.sign(case.metric)
    passed = sign * challenger > sign * value
    rows = len(case.scored.fresh)
    evidence = build_evidence("baseline", case.metric, rows, challenger=challenger, threshold=value, passed=passed)
    if passed:
        yield Finding("passed", "", evidence)
        return
    message = (
        f"No better than a simple model of the words: {case.metric} {challenger:.3f}, TF-IDF and logistic regression "
        f"{value:.3f}. Train longer, or use the simple model."
    )
    yield Finding("inconclusive", message, evidence)


def read_ratios(resources: Mapping[str, object] | None) -> Mapping[str, float]:
    """Return the ratios of what `measure_resources` measured; empty where nothing was."""
    ratios = (resources or {}).get("ratios")
    return ratios if isinstance(ratios, dict) else {}


def read_baseline(baseline: Mapping[str, object] | None) -> Mapping[str, float]:
    """Return the metrics that the simple model has; empty where it was not trained."""
    metrics = (baseline or {}).get("metrics")
    if not isinstance(metrics, dict):
        return {}
    return {name: value for name, value in metrics.items() if value is not None}
