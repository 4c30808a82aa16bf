"""The gate's behavioural tests: a challenger that loses too many right answers to small changes is harmful."""

from collections.abc import Iterator, Mapping
from typing import Any

from evertune.config import Gate
from evertune.gate.hypothesis_tests import MORE_ROWS, Finding, build_evidence
from evertune.statistics.paired_tests import SHARE, format_amount


def judge_robustness(rule: Gate, behaviour: Mapping[str, Any]) -> Iterator[Finding]:
    """The challenger's loss of right answers in each test that the rule names, against the largest that it allows.

    Args:
        behaviour: as `robustness.measure` tells it.
    """
    for test, max_loss in rule.robustness.items():
        if test not in behaviour:
            yield Finding("lacking", f"no result of the behavioural test {test}; evaluate again")
            continue
        rows = behaviour[test]["rows"]
        shares = behaviour[test]["models"]["challenger"]
        if rows < rule.min_rows:
            words = f"the behavioural test {test} changes {rows} test rows, needs {rule.min_rows}; {MORE_ROWS}"
            yield Finding("lacking", words, build_evidence("robustness", "right", rows, on=test, passed=False))
            continue
        loss = shares["before"] - shares["after"]
        evidence = build_evidence(
            "robustness",
            "right",
            rows,
            on=test,
            estimate=-loss,
            threshold=-max_loss,
            challenger=shares["after"],
            passed=loss <= max_loss,
        )
        lost_text, allowed_text = (format_amount(size, "right", SHARE) for size in (loss, max_loss))
        words = f"{test} take {lost_text} of the right answers on {rows} rows, {allowed_text} are allowed"
        yield Finding("passed", "", evidence) if loss <= max_loss else Finding("harm", words, evidence)
