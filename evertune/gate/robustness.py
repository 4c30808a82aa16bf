"""The gate's robustness tests: a challenger that loses too many right answers to small changes is harmful."""

from collections.abc import Iterator, Mapping
from typing import Any

from evertune.config import Gate
from evertune.gate.hypothesis_tests import MORE_ROWS, Finding, build_evidence
from evertune.statistics.paired_tests import SHARE, format_amount


def judge_robustness(rule: Gate, results: Mapping[str, Any]) -> Iterator[Finding]:
    """Test the challenger's loss of right answers in each robustness test that the rule names against its maximum.

    Args:
        rule: the recipe's gate.
        results: result of each test, as `evaluation.robustness.measure_robustness` returns it.
    """
    for test, max_loss in rule.robustness.items():
        if test not in results:
            yield Finding("inconclusive", f"The robustness test {test!r} has no result. Evaluate again.")
            continue
        rows = results[test]["rows"]
        shares = results[test]["models"]["challenger"]
        if rows < rule.min_rows:
            message = (
                f"The robustness test {test!r} changes only {rows} test rows; at least {rule.min_rows} are needed. "
                f"{MORE_ROWS}"
            )
            evidence = build_evidence("robustness", "right", rows, on=test, passed=False)
            yield Finding("inconclusive", message, evidence)
            continue
        loss = shares["before"] - shares["after"]
        passed = loss <= max_loss
        evidence = build_evidence(
            "robustness",
            "right",
            rows,
            on=test,
            estimate=-loss,
            threshold=-max_loss,
            challenger=shares["after"],
            passed=passed,
        )
        if passed:
            yield Finding("passed", "", evidence)
            continue
        lost_text = format_amount(loss, "right", SHARE)
        max_text = format_amount(max_loss, "right", SHARE)
        message = f"Robustness test {test!r}: {lost_text} fewer right answers on {rows} rows (maximum: {max_text})."
        yield Finding("harm", message, evidence)
