"""The gate: may a challenger take the champion's place? Pure: arrays in, a `Decision` with its evidence out."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from evertune.config import Gate
from evertune.errors import DataError
from evertune.gate.hypothesis_tests import (
    Case,
    Finding,
    Scored,
    build_evidence,
    judge_first_version,
    judge_minimums,
    judge_noninferiority,
    judge_slices,
    judge_superiority,
)
from evertune.gate.robustness import judge_robustness
from evertune.records import Decision, Verdict
from evertune.statistics.resampling import Metrics, slice_metric, sum_rows

__all__ = ["Scored", "decide_promotion", "used_error_budget"]


def decide_promotion(
    scored: Scored,
    metrics: Metrics,
    metric: str,
    rule: Gate,
    lower_is_better: Collection[str],
    challenge_number: int,
    resamples: int,
    seed: int,
    problem: str | None = None,
    behaviour: Mapping[str, Any] | None = None,
    no_shares: Collection[str] = (),
) -> Decision:
    """`promoted` only on evidence, `rejected` on evidence of harm, else `held` with what is missing.

    Args:
        metrics: sums of statistics (..., m) -> {metric: (...)}.
        metric: the one that the models are compared by.
        lower_is_better: the metrics that fall as a model improves; a minimum on one of them is a maximum.
        night: how often this champion has been challenged, this time included (see `spent`).
        problem: what went wrong before (an unreadable champion, a failed parity check): it holds the challenger.
        behaviour: what the behavioural tests found of the challenger, as `robustness.measure` tells it.
        no_shares: the metrics that are no shares of right rows, whose differences are no points.
    Raises:
        DataError: the arrays are not of the same rows.
        ValueError: `night` is below 1.
    """
    _check_shapes(scored)
    case = Case(scored, metrics, metric, rule, lower_is_better, challenge_number, resamples, seed, no_shares)
    if problem := problem or _find_problem(case):
        return Decision("held", problem)
    with np.errstate(divide="ignore", invalid="ignore"):  # what is undefined comes out as NaN, and NaN never promotes
        if scored.champion is None:
            return _combine_findings(case, [*judge_first_version(case), *judge_robustness(rule, behaviour or {})])
        if np.array_equal(scored.challenger, scored.champion):
            return Decision("held", f"no difference: both models say the same on all {len(scored.fresh)} test rows")
        return _combine_findings(
            case,
            [
                *judge_minimums(case),
                judge_superiority(case),
                *judge_noninferiority(case),
                *judge_slices(case),
                *judge_robustness(rule, behaviour or {}),
            ],
        )


def used_error_budget(evidence: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a decision with this evidence used up one of its champion's nights: only a test can promote wrongly."""
    return any(item["test"] == "superior" and item["p"] is not None for item in evidence)


def _find_problem(case: Case) -> str | None:
    """What makes the scores no evidence at all: no rows, a value that is not a number, a metric that is not there."""
    for name, stats in (("challenger", case.scored.challenger), ("champion", case.scored.champion)):
        if stats is None:
            continue
        if len(stats) == 0:
            return "there are no clean test rows: all of them stand in or near train rows; add others"
        if not np.isfinite(stats).all():
            return f"the {name}'s scores are not all numbers; look at its training for a loss that is not one either"
        with np.errstate(divide="ignore", invalid="ignore"):
            values = case.metrics(sum_rows(stats))
        for metric in (case.metric, *case.rule.minimum):
            if metric not in values:
                return f"{metric} is missing among the {name}'s metrics: {', '.join(values)}"
            if not np.isfinite(values[metric]):
                return f"the {name}'s {metric} is not a number on {len(stats)} test rows"
    return None


def _report_new_labels(case: Case, has_unseen_label: Any) -> dict[str, Any]:
    """How the challenger does on rows whose labels the champion does not know; it proves nothing."""
    values = case.metrics(sum_rows(case.scored.challenger[has_unseen_label]))
    name = slice_metric(case.metric, values)
    return build_evidence("new labels", name, int(has_unseen_label.sum()), challenger=float(values[name]), passed=None)


def _check_shapes(scored: Scored) -> None:
    """Fail where the arrays cannot be of the same rows.

    Raises:
        DataError: a shape differs.
    """
    shape = scored.challenger.shape
    rows = len(scored.challenger)
    if scored.champion is not None and scored.champion.shape != shape:
        raise DataError(f"challenger {shape} and champion {scored.champion.shape} differ in shape; score both again")
    for name, mask in {"fresh": scored.fresh, **scored.slices}.items():
        if mask.shape != (rows,):
            raise DataError(f"{name} marks {mask.shape} of {rows} test rows; evaluate again")


def _combine_findings(case: Case, findings: list[Finding]) -> Decision:
    """The findings' sum: any harm rejects, anything lacking holds."""
    evidence = [item.evidence for item in findings if item.evidence]
    if case.scored.apart is not None and case.scored.apart.any():
        evidence.append(_report_new_labels(case, case.scored.apart))
    if case.scored.unusable:
        evidence.append(build_evidence("leakage", case.metric, case.scored.unusable, passed=None))
    outcomes: tuple[tuple[str, Verdict], ...] = (("harm", "rejected"), ("lacking", "held"), ("passed", "promoted"))
    state, name = next(outcome for outcome in outcomes if any(item.state == outcome[0] for item in findings))
    messages = [item.words for item in findings if item.state == state and item.words]
    return Decision(name, "; ".join(messages), tuple(evidence))
