"""The tests behind the gate, each a finding: minimums, superiority, non-inferiority, slices."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evertune.config import Gate
from evertune.statistics.clusters import sum_by_group
from evertune.statistics.paired_tests import MetricKind, find_kind, format_amount
from evertune.statistics.resampling import (
    Difference,
    Metrics,
    bootstrap_intervals,
    holm,
    paired_difference,
    slice_metric,
    spend_alpha,
    sum_rows,
)

MORE_ROWS = "add rows, or lower evaluation.gate.min_rows if so few are enough for you"


@dataclass(frozen=True)
class Scored:
    """Both models on the same clean test rows, in the same order.

    Args:
        challenger, champion: statistics (rows, m) of the objective; None where there is no champion.
        fresh: (rows,) the rows that came since the champion.
        slices: name, such as `label=refund_request`, -> (rows,) the rows in it.
        unusable: leaked rows that are already left out, for the record.
        majority: statistics of always giving the rows' commonest label; needed where there is no champion.
        groups: (rows,) rows of one number are right or wrong together; None where every row stands alone.
        apart: (rows,) rows with a label that the champion does not know: the models are not compared on them.
    """

    challenger: NDArray[Any]
    champion: NDArray[Any] | None
    fresh: NDArray[np.bool_]
    slices: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    unusable: int = 0
    majority: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    apart: NDArray[np.bool_] | None = None

    @property
    def compared(self) -> NDArray[np.bool_]:
        """(rows,) rows on which the models are compared."""
        return np.ones_like(self.fresh) if self.apart is None else ~self.apart


@dataclass(frozen=True)
class Finding:
    """What one test says, for a person and for the record."""

    state: Literal["passed", "lacking", "harm"]
    words: str
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True)
class Case:
    """One challenge, as `decide` was asked."""

    scored: Scored
    metrics: Metrics
    metric: str
    rule: Gate
    falling: Collection[str]
    night: int
    resamples: int
    seed: int
    no_shares: Collection[str] = ()

    @property
    def harm_alpha(self) -> float:
        return 1 - self.rule.confidence

    @property
    def alpha(self) -> float:
        return spend_alpha(self.harm_alpha, self.night)

    def sign(self, metric: str) -> int:
        return -1 if metric in self.falling else 1

    def select_rows(self, name: str) -> NDArray[np.bool_]:
        """Those of one name on which the models are compared; `all`: every test row."""
        fresh = self.scored.fresh
        compared = self.scored.compared
        rows = {"fresh": fresh, "history": ~fresh, "test": np.ones_like(fresh)}
        return np.ones_like(fresh) if name == "all" else rows[name] & compared

    @property
    def groups(self) -> NDArray[Any]:
        return np.arange(len(self.scored.fresh)) if self.scored.groups is None else self.scored.groups

    def count_rows(self, mask: NDArray[np.bool_]) -> tuple[int, int]:
        """Rows, and the groups that they stand in."""
        return int(mask.sum()), len(np.unique(self.groups[mask]))

    def measure_difference(self, mask: NDArray[np.bool_], metric: str, alpha: float) -> Difference:
        assert self.scored.champion is not None
        return paired_difference(
            self.scored.challenger[mask],
            self.scored.champion[mask],
            partial(self.signed_value, metric),
            groups=self.groups[mask],
            resamples=self.resamples,
            seed=self.seed,
            alpha=alpha,
            harm_alpha=self.harm_alpha,
            kind=self.metric_kind(metric),
        )

    def metric_kind(self, metric: str) -> MetricKind:
        return find_kind(metric, self.no_shares)

    def format_amount(self, size: float, metric: str) -> str:
        """A difference of the metric in words: a share in points, other numbers in their own unit."""
        return format_amount(size, metric, self.metric_kind(metric))

    def describe_change(self, estimate: float, metric: str) -> str:
        """A difference with its direction in words."""
        words = f"{'better' if estimate > 0 else 'worse'} by {self.format_amount(abs(estimate), metric)}"
        return words if estimate else "no difference"

    def signed_value(self, metric: str, sums: Any) -> Any:
        return self.sign(metric) * self.metrics(sums)[metric]


def judge_first_version(case: Case) -> list[Finding]:
    """Without a champion the minimums decide, and the commonest label, which any use of a model must beat."""
    rows, groups = case.count_rows(case.select_rows("all"))
    findings = list(judge_minimums(case))
    if groups >= case.rule.min_rows:
        return [*findings, judge_against_majority(case)]
    words = f"first version on {describe_rows(rows, groups, 'test')}, needs {case.rule.min_rows}; {MORE_ROWS}"
    return findings or [Finding("lacking", words, build_evidence("first", case.metric, rows, passed=False))]


def judge_against_majority(case: Case) -> Finding:
    """Better than always giving the commonest label of the test rows."""
    assert case.scored.majority is not None
    challenger_value, majority_value = (
        float(case.metrics(sum_rows(stats))[case.metric]) for stats in (case.scored.challenger, case.scored.majority)
    )
    passed = case.sign(case.metric) * challenger_value > case.sign(case.metric) * majority_value
    rows = len(case.scored.fresh)
    evidence = build_evidence(
        "first", case.metric, rows, challenger=challenger_value, threshold=majority_value, passed=passed
    )
    words = (
        f"{case.metric} {challenger_value:.3f} on {rows} test rows, the commonest label alone has {majority_value:.3f}"
    )
    if passed:
        return Finding("passed", "" if case.rule.minimum else f"first version: {words}", evidence)
    return Finding("lacking", f"no better than no model: {words}; train longer, or look at the labels", evidence)


def judge_minimums(case: Case) -> Iterator[Finding]:
    """The challenger against each configured minimum, on all test rows."""
    if not case.rule.minimum:
        return
    rows, groups = case.count_rows(case.select_rows("all"))
    stats = sum_by_group(case.scored.challenger, case.groups)
    intervals = bootstrap_intervals(stats, case.metrics, case.resamples, case.rule.confidence, case.seed)
    for metric, threshold in case.rule.minimum.items():
        estimate, low, high = intervals[metric]
        sign = case.sign(metric)
        passed = groups >= case.rule.min_rows and sign * estimate >= sign * threshold
        is_surely_below = groups >= case.rule.min_rows and sign * (high if sign > 0 else low) < sign * threshold
        bounds = {"low": low, "high": high, "threshold": threshold, "groups": groups}
        evidence = build_evidence("minimum", metric, rows, challenger=estimate, passed=passed, **bounds)
        requirement = f"{'at least' if sign > 0 else 'at most'} {threshold:g} is asked"
        words = f"{metric} {estimate:.3f} on {describe_rows(rows, groups, 'test')}, {requirement}"
        if groups < case.rule.min_rows:
            unit = "rows" if groups == rows else "groups"
            words += f", and fewer than {case.rule.min_rows} {unit} prove nothing; {MORE_ROWS}"
        elif not passed:
            words += f" (interval {low:.3f} to {high:.3f})"
        yield Finding("passed" if passed else "harm" if is_surely_below else "lacking", words, evidence)


def judge_superiority(case: Case) -> Finding:
    """Better on the rows that the rule names, at this night's share of the error budget."""
    name = case.rule.superior_on
    alpha = case.alpha
    mask = case.select_rows(name)
    if shortage := check_row_count(case, "superior", name):
        return shortage
    difference = case.measure_difference(mask, case.metric, alpha)
    passed = difference.estimate > 0 and difference.p_better <= alpha
    p = difference.p_better
    evidence = build_comparison(case, "superior", case.metric, difference, on=name, p=p, threshold=alpha, passed=passed)
    words = case.describe_change(difference.estimate, case.metric)
    where = f"on {describe_rows(difference.rows, difference.groups, name)}"
    if not np.isfinite(p):
        return Finding("lacking", f"{case.metric} is undefined {where}, or in some resamples of them", evidence)
    if passed:
        return Finding("passed", f"{words} {where}, p = {p:.2g}, at most {alpha:.2g} is asked", evidence)
    if difference.p_worse <= case.harm_alpha:
        return Finding("harm", f"{words} {where}, p = {difference.p_worse:.2g}", evidence)
    detectable = case.metric_kind(case.metric).detectable(
        difference.effective, alpha, difference.estimate, difference.spread
    )
    detectable_text = case.format_amount(detectable, case.metric)
    words = (
        f"{words} {where}, p = {p:.2g}, needs p <= {alpha:.2g}; "
        f"{describe_rows(difference.rows, difference.groups)} can show {detectable_text}"
    )
    return Finding("lacking", words, evidence)


def judge_noninferiority(case: Case) -> Iterator[Finding]:
    """Not worse than the margin on each set of rows that the rule names: what forgetting would break."""
    for name, margin in case.rule.noninferior_on.items():
        yield check_row_count(case, "noninferior", name) or judge_margin(case, name, margin)


def judge_margin(case: Case, name: str, margin: float) -> Finding:
    """Whether the difference on the named rows is surely above, or surely below, -margin."""
    difference = case.measure_difference(case.select_rows(name), case.metric, case.alpha)
    passed = difference.low > -margin
    evidence = build_comparison(case, "noninferior", case.metric, difference, on=name, threshold=-margin, passed=passed)
    where = f"on {describe_rows(difference.rows, difference.groups, name)}"
    words = case.describe_change(difference.estimate, case.metric)
    loss_text = case.format_amount(max(0.0, -difference.low), case.metric)
    margin_text = case.format_amount(margin, case.metric)
    if passed:
        return Finding("passed", f"at most {loss_text} worse {where}, margin {margin_text}", evidence)
    if difference.high < -margin:
        return Finding("harm", f"{words} {where}, surely beyond the margin of {margin_text}", evidence)
    if not np.isfinite(difference.low):
        return Finding("lacking", f"{case.metric} is undefined {where}, or in some resamples of them", evidence)
    return Finding("lacking", f"{words} {where}, may be {loss_text} worse, the margin is {margin_text}", evidence)


def judge_slices(case: Case) -> Iterator[Finding]:
    """Loss in a slice beyond `drop`, where it cannot be chance after Holm's correction for the number of slices."""
    metric = slice_metric(case.metric, case.metrics(sum_rows(case.scored.challenger)))
    tested = 0
    suspects = {}
    for name, slice_mask in case.scored.slices.items():
        mask = slice_mask & case.scored.compared
        groups = case.count_rows(mask)[1]
        loss = measure_slice_loss(case, mask, metric)
        if groups < case.rule.slice.min_rows or loss is None:
            continue
        tested += 1
        if not loss <= case.rule.slice.drop:
            suspects[name] = mask
    alpha = case.harm_alpha / max(1, tested)
    differences = {name: case.measure_difference(mask, metric, alpha) for name, mask in suspects.items()}
    # Slices that lost little count in the correction and cannot be found guilty: a p-value of 1 says both.
    p_values = [difference.p_worse for difference in differences.values()] + [1.0] * (tested - len(differences))
    for (name, difference), level in zip(differences.items(), holm(p_values, case.harm_alpha), strict=False):
        yield judge_slice(case, name, metric, difference, level)
    yield Finding("passed", f"{tested} slices tested" if tested else "")


def judge_slice(case: Case, name: str, metric: str, difference: Difference, level: float) -> Finding:
    """One slice that lost more than `drop`: harm, chance, or, where the metric is undefined, nothing to go by."""
    p = difference.p_worse
    defined = bool(np.isfinite([difference.estimate, p]).all())
    harm = defined and p <= level
    evidence = build_comparison(
        case, "slice", metric, difference, on=name, p=p, threshold=level, passed=defined and not harm
    )
    if not defined:
        words = f"{metric} on the slice {name} is undefined in a model or in some resamples"
        return Finding("lacking", words, evidence)
    words = (
        f"{case.describe_change(difference.estimate, metric)} on the slice {name} "
        f"({describe_rows(difference.rows, difference.groups)}), p = {p:.2g}"
    )
    return Finding("harm", words, evidence) if harm else Finding("passed", "", evidence)


def measure_slice_loss(case: Case, mask: NDArray[np.bool_], metric: str) -> float | None:
    """How much the challenger is worse on these rows; None where the metric has no meaning for either model."""
    assert case.scored.champion is not None
    challenger_value, champion_value = (
        float(case.signed_value(metric, sum_rows(stats[mask])))
        for stats in (case.scored.challenger, case.scored.champion)
    )
    return None if np.isnan(challenger_value) and np.isnan(champion_value) else champion_value - challenger_value


def check_row_count(case: Case, test: str, name: str) -> Finding | None:
    """Fewer rows, or groups of rows, than the rule asks for are no evidence."""
    (rows, groups) = case.count_rows(case.select_rows(name))
    min_rows = case.rule.min_rows
    if groups >= min_rows:
        return None
    alternative = "superior_on: test" if test == "superior" else "noninferior_on: {test: 0.02}"
    words = (
        f"{describe_rows(rows, groups, name)}, needs {min_rows}; wait for rows, or set evaluation.gate.{alternative}"
    )
    return Finding("lacking", words, build_evidence(test, case.metric, rows, groups=groups, on=name, passed=False))


def build_comparison(case: Case, test: str, metric: str, difference: Difference, **fields: Any) -> dict[str, Any]:
    """A comparison as evidence: the difference turned so that higher is better, the two models' metric as it is."""
    sign = case.sign(metric)
    return build_evidence(
        test,
        metric,
        difference.rows,
        groups=difference.groups,
        estimate=difference.estimate,
        low=difference.low,
        high=difference.high,
        challenger=sign * difference.challenger,
        champion=sign * difference.champion,
        **fields,
    )


def build_evidence(test: str, metric: str, rows: int, **fields: Any) -> dict[str, Any]:
    """One piece of evidence, JSON-ready: every key is there, what does not apply or is not a number is None."""
    keys = ("groups", "on", "estimate", "low", "high", "p", "threshold", "passed", "challenger", "champion")
    values = {key: fields.get(key) for key in keys}
    cleaned = {
        key: (float(value) if np.isfinite(value) else None) if isinstance(value, float) else value
        for key, value in values.items()
    }
    return {"test": test, "metric": metric, "rows": rows, **cleaned}


def describe_rows(rows: int, groups: int, kind: str = "") -> str:
    """Rows in words, with their groups where some of them stand together."""
    words = f"{rows} {kind} rows" if kind else f"{rows} rows"
    return words if groups == rows else f"{words} in {groups} groups"
