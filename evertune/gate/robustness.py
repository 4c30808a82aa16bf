"""The gate's behavioural tests: a challenger that loses too many right answers to small changes is harmful."""

from collections.abc import Iterator, Mapping
from typing import Any

from evertune.config import Gate
from evertune.gate.hypothesis_tests import MORE_ROWS, Finding, entry
from evertune.statistics.paired_tests import SHARE, amount


def robust(rule: Gate, behaviour: Mapping[str, Any]) -> Iterator[Finding]:
    """The challenger's loss of right answers in each test that the rule names, against the largest that it allows.

    Args:
        behaviour: as `robustness.measure` tells it.
    """
    for test, most in rule.robustness.items():
        if test not in behaviour:
            yield Finding("lacking", f"no result of the behavioural test {test}; evaluate again")
            continue
        rows, one = behaviour[test]["rows"], behaviour[test]["models"]["challenger"]
        if rows < rule.min_rows:
            words = f"the behavioural test {test} changes {rows} test rows, needs {rule.min_rows}; {MORE_ROWS}"
            yield Finding("lacking", words, entry("robustness", "right", rows, on=test, passed=False))
            continue
        loss = one["before"] - one["after"]
        evidence = entry(
            "robustness", "right", rows, on=test, estimate=-loss, threshold=-most, challenger=one["after"],
            passed=loss <= most,
        )  # fmt: skip
        lost, allowed = (amount(size, "right", SHARE) for size in (loss, most))
        words = f"{test} take {lost} of the right answers on {rows} rows, {allowed} are allowed"
        yield Finding("passed", "", evidence) if loss <= most else Finding("harm", words, evidence)
