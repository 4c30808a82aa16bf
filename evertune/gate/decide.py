"""The gate: may a challenger replace the champion? Pure: arrays in, a `Decision` with its evidence out."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from evertune.errors import DataError
from evertune.gate.expected import judge_gain, judge_harm
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
from evertune.gate.resources import judge_baseline, judge_resources
from evertune.gate.robustness import judge_robustness
from evertune.records import Decision, Evidence, Verdict
from evertune.statistics.resampling import slice_metric, sum_rows

__all__ = ["Case", "Scored", "decide_promotion", "used_error_budget"]

SPENDING = ("superior", "proof", "expected")  # tests that can promote
VERDICTS: dict[str, Verdict] = {"harm": "rejected", "inconclusive": "held", "passed": "promoted"}  # the first one wins


def decide_promotion(case: Case) -> Decision:
    """Return `promoted` only on evidence, `rejected` on evidence of harm, else `held` with what is missing.

    Raises:
        DataError: the arrays do not describe the same rows.
        ValueError: `challenge_number` is below 1.
    """
    scored = case.scored
    _check_shapes(case)
    problem = case.problem or _find_problem(case)
    if problem:
        return Decision("held", problem)
    with np.errstate(divide="ignore", invalid="ignore"):  # what is undefined comes out as NaN, and NaN never promotes
        if scored.champion is None:
            return _combine_findings(
                case,
                [
                    *judge_first_version(case),
                    *judge_baseline(case),
                    *judge_robustness(case.rule, case.robustness),
                ],
            )
        if np.array_equal(scored.challenger, scored.champion) and _score_alike(case):
            return Decision("held", f"No difference: both models score the same on all {len(scored.fresh)} test rows.")
        return _combine_findings(
            case,
            [
                *judge_minimums(case),
                *_judge_improvement(case),
                *judge_slices(case),
                *judge_baseline(case),
                *judge_resources(case),
                *judge_robustness(case.rule, case.robustness),
            ],
        )


def _judge_improvement(case: Case) -> list[Finding]:
    """Compare the models by the recipe's rule."""
    if case.rule.rule_name == "thresholds":
        return [judge_superiority(case), *judge_noninferiority(case)]
    return [judge_gain(case), *judge_harm(case)]


def used_error_budget(evidence: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a decision with this evidence used one of its champion's challenges: only a test can promote wrongly."""
    return any(item["test"] in SPENDING and item["p"] is not None for item in evidence)


def _find_problem(case: Case) -> str | None:
    """Return why the scores cannot be evidence: no rows, values that are not finite, a missing or undefined metric."""
    for name, stats in (("challenger", case.scored.challenger), ("champion", case.scored.champion)):
        if stats is None:
            continue
        if len(stats) == 0:
            return "No clean test rows: all of them are in or near a training snapshot. Add other test rows."
        if not np.isfinite(stats).all():
            return f"The {name}'s scores contain NaN or infinite values. Check its training for a loss of NaN."
        with np.errstate(divide="ignore", invalid="ignore"):
            values = case.metrics(sum_rows(stats))
        for metric in (case.metric, *case.rule.minimum):
            if metric not in values:
                return f"{metric} is missing from the {name}'s metrics: {', '.join(values)}."
            if not np.isfinite(values[metric]):
                return f"The {name}'s {metric} is undefined on {len(stats)} test rows."
    return None


def _report_new_labels(case: Case, has_new_label: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the challenger's score on rows whose labels the champion does not know; it decides nothing."""
    values = case.metrics(sum_rows(case.scored.challenger[has_new_label]))
    name = slice_metric(case.metric, values)
    return build_evidence("new labels", name, int(has_new_label.sum()), challenger=float(values[name]), passed=None)


def _score_alike(case: Case) -> bool:
    """Return whether the rule looks at nothing in which the models differ."""
    if case.rule.rule_name == "thresholds" or case.scores is None:
        return True
    return np.array_equal(case.scores.challenger, case.scores.champion)


def _check_shapes(case: Case) -> None:
    """Fail if the arrays cannot describe the same rows.

    Raises:
        DataError: a shape differs.
    """
    scored = case.scored
    shape = scored.challenger.shape
    rows = len(scored.challenger)
    if scored.champion is not None and scored.champion.shape != shape:
        raise DataError(
            f"the scores of challenger {shape} and champion {scored.champion.shape} differ in shape; "
            "evaluate both again"
        )
    if case.scores is not None and len(case.scores.challenger) != rows:
        raise DataError(f"there are scores of {len(case.scores.challenger)} rows, but {rows} test rows; evaluate again")
    for name, mask in {"fresh": scored.fresh, **scored.slices}.items():
        if mask.shape != (rows,):
            raise DataError(f"the mask {name!r} has shape {mask.shape}, but there are {rows} test rows; evaluate again")


def _combine_findings(case: Case, findings: list[Finding]) -> Decision:
    """Combine the findings: any harm rejects, anything inconclusive holds."""
    evidence = [item.evidence for item in findings if item.evidence]
    has_new_label = case.scored.has_new_label
    if has_new_label is not None and has_new_label.any():
        evidence.append(_report_new_labels(case, has_new_label))
    if case.scored.leaked:
        evidence.append(build_evidence("leakage", case.metric, case.scored.leaked, passed=None))
    states = {item.state for item in findings}
    state = next(state for state in VERDICTS if state in states)
    messages = [item.message for item in findings if item.state == state and item.message]
    return Decision(VERDICTS[state], " ".join(messages), tuple(cast(list[Evidence], evidence)))
