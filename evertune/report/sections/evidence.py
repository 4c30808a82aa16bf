"""The tests behind a decision: the gate's, the robustness tests, and those for drift."""

from typing import Any

from evertune.report.formatting import format_count, format_interval, format_number, format_pvalue, is_number
from evertune.report.sections.metrics import falling_metrics
from evertune.report.view import Cell, Label, Noted, Table, Titled, Toned, interval, number, prose, text

Json = dict[str, Any]
REQUIRED = {
    "expected": "p ≤ ",
    "proof": "p ≤ ",
    "harm": "p > ",
    "superior": "p ≤ ",
    "noninferior": "low > ",
    "slice": "p > ",
    "robustness": "≥ ",
    "parity": "≤ ",
}
EXPLANATIONS = {
    "embedding": "Meaning: maximum mean discrepancy of the champion's hidden states (Gretton et al. 2012)",
    "vocabulary": "Words: shares of the 500 most frequent tokens",
    "language": "Languages: total variation distance of their shares",
    "length": "Length in tokens: Kolmogorov-Smirnov test",
    "confidence": "The champion's confidence: Kolmogorov-Smirnov test",
    "prediction": "The champion's predictions: shares of the labels",
    "performance": "Errors on labelled rows: only a rise counts",
}


def build_evidence(outcome: Json) -> Table:
    """Return one line a test of the gate: its result, difference, interval, p-value and what it required."""
    columns = (
        prose("Test"),
        text("Result"),
        number("Rows"),
        number("Difference"),
        interval("Interval"),
        number("p"),
        number("Required"),
        number("Challenger"),
        number("Champion"),
    )
    return Table(columns, [_evidence_row(check) for check in outcome.get("evidence") or ()])


def _evidence_row(check: Json) -> list[Cell]:
    where = f" on {check['on']}" if check.get("on") else ""
    name = Label(check["test"] + where)
    metric = check.get("metric")
    return [
        Noted(name, metric) if metric else name,
        _mark_passed(check.get("passed")),
        _count_rows(check),
        format_number(check.get("estimate"), signed=True),
        format_interval(check.get("low"), check.get("high"), signed=is_number(check.get("estimate"))),
        format_pvalue(check.get("p")),
        _format_requirement(check),
        format_number(check.get("challenger")),
        format_number(check.get("champion")),
    ]


def _format_requirement(check: Json) -> str | None:
    threshold = format_pvalue(check.get("threshold"))
    if threshold is None:
        return None
    if check["test"] == "minimum":
        return f"{'≤' if check.get('metric') in falling_metrics() else '≥'} {threshold}"
    return REQUIRED.get(check["test"], "") + threshold


def _count_rows(check: Json) -> Cell:
    """Return the number of rows, and that of their groups where some rows belong together."""
    rows = check.get("rows")
    groups = check.get("groups")
    if groups is None or groups == rows:
        return format_count(rows)
    return Noted(format_count(rows), f"in {format_count(groups)} groups")


def _mark_passed(passed: bool | None) -> Cell:
    if passed is None:
        return None
    return Toned("✓ passed", "good", strong=True) if passed else Toned("✗ failed", "bad", strong=True)


def build_robustness(details: Json) -> Table:
    """Return what each behavioural test did to the answers of each model."""
    columns = (
        text("Test"),
        number("Rows"),
        text("Model"),
        number("Correct before"),
        number("Correct after"),
        number("Answers unchanged"),
    )
    rows: list[list[Cell]] = []
    for test, result in (details.get("robustness") or {}).items():
        for model, scores in result["models"].items():
            shares = [format_number(scores[key]) for key in ("before", "after", "unchanged")]
            rows.append([test, format_count(result["rows"]), model, *shares])
    return Table(columns, rows)


def build_drift_tests(result: Json) -> Table:
    """Return one line a test for drift, the smallest p-value first."""
    columns = (
        prose("Test"),
        number("p, corrected"),
        number("p, uncorrected"),
        number("Statistic"),
        number("By chance"),
    )
    rows = [
        [
            Titled(finding["test"], finding["words"], EXPLANATIONS[finding["test"]]),
            _mark_found(finding),
            format_pvalue(finding["p"]),
            format_number(finding["statistic"]),
            format_number(finding["usual"]),
        ]
        for finding in sorted(result["findings"], key=lambda finding: finding["p"])
    ]
    return Table(columns, rows)


def _mark_found(finding: Json) -> Cell:
    p = format_pvalue(finding["adjusted"])
    return Toned(p, "bad", strong=True) if finding["found"] else p
