"""The gate's tests, each returns findings: minimums, superiority, non-inferiority, slices."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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

if TYPE_CHECKING:
    from evertune.gate.expected import RowScores

LABEL_METRIC = "f1"  # by which the slice of a label is compared
MORE_ROWS = "Add rows, or lower evaluation.gate.min_rows."


@dataclass(frozen=True)
class Scored:
    """Both models on the same clean test rows, in the same order.

    Args:
        challenger: statistics (rows, m) of the objective.
        champion: the same of the champion; None without a champion.
        fresh: (rows,) true for rows that arrived after the champion was trained.
        slices: name, such as `label=refund_request`, -> (rows,) the rows in it.
        leaked: number of test rows left out because they are in or near a training snapshot.
        majority: statistics of a model that always predicts the most frequent label; required without a champion.
        groups: (rows,) number of each row's group; the rows of a group are not independent. None: every row is.
        has_new_label: (rows,) true for rows whose label the champion does not know; the models are not compared there.
    """

    challenger: NDArray[Any]
    champion: NDArray[Any] | None
    fresh: NDArray[np.bool_]
    slices: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    leaked: int = 0
    majority: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    has_new_label: NDArray[np.bool_] | None = None

    @property
    def is_compared(self) -> NDArray[np.bool_]:
        """(rows,) true for rows on which the models are compared."""
        if self.has_new_label is None:
            return np.ones_like(self.fresh)
        return ~self.has_new_label


@dataclass(frozen=True)
class Finding:
    """The result of one test: `message` for a person (whole sentences, or empty), `evidence` for the record."""

    state: Literal["passed", "inconclusive", "harm"]
    message: str
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True)
class Case:
    """One challenge: the scores, the rule, and what the tests need to know.

    Args:
        scored: both models on the same rows.
        metrics: sums of statistics (..., m) -> {metric: (...)}.
        metric: the metric that the models are compared by.
        rule: the recipe's gate.
        lower_is_better: the metrics that fall as a model improves; a minimum on one of them is a maximum.
        challenge_number: how many challengers, this one included, this champion has met (see `spend_alpha`).
        resamples: bootstrap resamples, and first permutations.
        seed: of every resampling.
        problem: what went wrong earlier (an unreadable champion, a failed parity check); it holds the challenger.
        robustness: result of each robustness test of the challenger, as `measure_robustness` returns it.
        no_shares: the metrics that are not shares of rows; their differences are not reported in points.
        scores: both models' proper scores of the rows; None where only the metric is known.
        look: 1 for the first challenge of this champion on these very test rows, 2 for the second, ...
        fingerprint: of these test rows; empty where it is unknown.
        ratios: what the challenger takes over what the champion takes, by resource.
        baseline: metrics of a simple model on these rows; empty where there is none.
        label_score: returns the F1 (..., ) of a label from sums (..., m) of statistics, NaN for an unknown label; None
            for objectives without labels.
    """

    scored: Scored
    metrics: Metrics
    metric: str
    rule: Gate
    lower_is_better: Collection[str]
    challenge_number: int
    resamples: int
    seed: int
    problem: str | None = None
    robustness: Mapping[str, Any] = field(default_factory=dict)
    no_shares: Collection[str] = ()
    scores: "RowScores | None" = None
    look: int = 1
    fingerprint: str = ""
    ratios: Mapping[str, float] = field(default_factory=dict)
    baseline: Mapping[str, float] = field(default_factory=dict)
    label_score: Callable[[Any, str], Any] | None = None

    @property
    def harm_alpha(self) -> float:
        """Level of every test that can only stop a challenger."""
        return 1 - self.rule.confidence

    @property
    def alpha(self) -> float:
        """Level of the tests that can promote: this challenge's share of the error budget."""
        return spend_alpha(self.harm_alpha, self.challenge_number)

    def sign(self, metric: str) -> int:
        """-1 for a metric that falls as a model improves, else 1."""
        return -1 if metric in self.lower_is_better else 1

    def select_rows(self, name: str) -> NDArray[np.bool_]:
        """Return a mask (rows,): `fresh`, `history` or `test` rows on which the models are compared, or `all` rows."""
        fresh = self.scored.fresh
        if name == "all":
            return np.ones_like(fresh)
        rows = {"fresh": fresh, "history": ~fresh, "test": np.ones_like(fresh)}
        return rows[name] & self.scored.is_compared

    @property
    def groups(self) -> NDArray[Any]:
        """(rows,) number of each row's group; without groups, every row is a group of its own."""
        return np.arange(len(self.scored.fresh)) if self.scored.groups is None else self.scored.groups

    def count_rows(self, mask: NDArray[np.bool_]) -> tuple[int, int]:
        """Count the selected rows and their groups."""
        return int(mask.sum()), len(np.unique(self.groups[mask]))

    def measure_difference(self, mask: NDArray[np.bool_], metric: str, alpha: float) -> Difference:
        """Compare the two models on the selected rows."""
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
        """Whether the metric is a share of rows or another number, with the tests of its kind."""
        return find_kind(metric, self.no_shares)

    def format_amount(self, size: float, metric: str) -> str:
        """Write a difference with its unit: a share in points, other numbers in their own unit."""
        return format_amount(size, metric, self.metric_kind(metric))

    def format_number(self, size: float, metric: str) -> str:
        """Write a difference without its unit."""
        return self.format_amount(size, metric).partition(" ")[0]

    def describe_change(self, estimate: float, metric: str) -> str:
        """Write a difference with its direction: "Better by 2.0 points"."""
        if not estimate:
            return "No difference"
        direction = "Better" if estimate > 0 else "Worse"
        return f"{direction} by {self.format_amount(abs(estimate), metric)}"

    def signed_value(self, metric: str, sums: Any) -> Any:
        """Return the metric, turned so that higher is better."""
        return self.sign(metric) * self.metrics(sums)[metric]


def judge_first_version(case: Case) -> list[Finding]:
    """Test a model without a champion: the minimums, and the majority baseline, which any useful model must beat."""
    rows, groups = case.count_rows(case.select_rows("all"))
    findings = list(judge_minimums(case))
    if groups >= case.rule.min_rows:
        return [*findings, judge_against_majority(case)]
    if findings:
        return findings
    message = f"The first version has only {describe_rows(rows, groups, 'test')}; {describe_need(case, rows, groups)}"
    evidence = build_evidence("first", case.metric, rows, passed=False)
    return [Finding("inconclusive", f"{message}. {MORE_ROWS}", evidence)]


def judge_against_majority(case: Case) -> Finding:
    """Test whether the challenger is better than always predicting the most frequent label of the test rows."""
    assert case.scored.majority is not None
    challenger_value = float(case.metrics(sum_rows(case.scored.challenger))[case.metric])
    majority_value = float(case.metrics(sum_rows(case.scored.majority))[case.metric])
    sign = case.sign(case.metric)
    passed = sign * challenger_value > sign * majority_value
    rows = len(case.scored.fresh)
    evidence = build_evidence(
        "first", case.metric, rows, challenger=challenger_value, threshold=majority_value, passed=passed
    )
    score = f"{case.metric} {challenger_value:.3f} on {rows} test rows (majority baseline: {majority_value:.3f})"
    if not passed:
        message = f"No better than the majority baseline: {score}. Train longer, or check the labels."
        return Finding("inconclusive", message, evidence)
    # With a minimum, its own message already tells the score.
    return Finding("passed", "" if case.rule.minimum else f"First version: {score}.", evidence)


def judge_minimums(case: Case) -> Iterator[Finding]:
    """Test the challenger against each configured minimum, on all test rows."""
    if not case.rule.minimum:
        return
    rows, groups = case.count_rows(case.select_rows("all"))
    has_enough_rows = groups >= case.rule.min_rows
    stats = sum_by_group(case.scored.challenger, case.groups)
    intervals = bootstrap_intervals(stats, case.metrics, case.resamples, case.rule.confidence, case.seed)
    for metric, threshold in case.rule.minimum.items():
        estimate, low, high = intervals[metric]
        sign = case.sign(metric)
        passed = has_enough_rows and sign * estimate >= sign * threshold
        best_bound = high if sign > 0 else low
        is_surely_below = has_enough_rows and sign * best_bound < sign * threshold
        evidence = build_evidence(
            "minimum",
            metric,
            rows,
            challenger=estimate,
            passed=passed,
            low=low,
            high=high,
            threshold=threshold,
            groups=groups,
        )
        score = f"{metric} {estimate:.3f} on {describe_rows(rows, groups, 'test')}"
        bound = f"{'minimum' if sign > 0 else 'maximum'}: {threshold:g}"
        if not has_enough_rows:
            message = f"{score} ({bound}), but {describe_need(case, rows, groups)}. {MORE_ROWS}"
        elif not passed:
            message = f"{score} ({bound}; {100 * case.rule.confidence:g}% interval {low:.3f} to {high:.3f})."
        else:
            message = f"{score} ({bound})."
        if passed:
            yield Finding("passed", message, evidence)
        else:
            yield Finding("harm" if is_surely_below else "inconclusive", message, evidence)


def judge_superiority(case: Case) -> Finding:
    """Test whether the challenger is better on the rows that the rule names, at this challenge's level."""
    name = case.rule.superior_on
    alpha = case.alpha
    if shortage := check_row_count(case, "superior", name):
        return shortage
    difference = case.measure_difference(case.select_rows(name), case.metric, alpha)
    passed = difference.estimate > 0 and difference.p_better <= alpha
    p = difference.p_better
    evidence = build_comparison(case, "superior", case.metric, difference, on=name, p=p, threshold=alpha, passed=passed)
    rows_text = describe_rows(difference.rows, difference.groups, name)
    change = f"{case.describe_change(difference.estimate, case.metric)} on {rows_text}"
    if not np.isfinite(p):
        return Finding("inconclusive", describe_undefined(case.metric, rows_text), evidence)
    if passed:
        return Finding("passed", f"{change} (p = {p:.2g}, threshold {alpha:.2g}).", evidence)
    if difference.p_worse <= case.harm_alpha:
        message = f"{change} (p = {difference.p_worse:.2g}, threshold {case.harm_alpha:.2g})."
        return Finding("harm", message, evidence)
    detectable = case.metric_kind(case.metric).detectable(
        difference.effective, alpha, difference.estimate, difference.spread
    )
    message = (
        f"{change}, not significant (p = {p:.2g}, threshold {alpha:.2g}). With {rows_text} the gate can detect "
        f"gains of {case.format_amount(detectable, case.metric)} or more (80% power)."
    )
    return Finding("inconclusive", message, evidence)


def judge_noninferiority(case: Case) -> Iterator[Finding]:
    """Test for a loss above the margin on each set of rows that the rule names, to find what was forgotten."""
    for name, margin in case.rule.noninferior_on.items():
        yield check_row_count(case, "noninferior", name) or judge_margin(case, name, margin)


def judge_margin(case: Case, name: str, margin: float) -> Finding:
    """Test whether the difference on the named rows is surely above, or surely below, -margin."""
    difference = case.measure_difference(case.select_rows(name), case.metric, case.alpha)
    passed = difference.low > -margin
    evidence = build_comparison(case, "noninferior", case.metric, difference, on=name, threshold=-margin, passed=passed)
    rows_text = describe_rows(difference.rows, difference.groups, name)
    change = f"{case.describe_change(difference.estimate, case.metric)} on {rows_text}"
    margin_text = case.format_amount(margin, case.metric)
    largest_loss = max(0.0, -difference.low)
    if passed:
        loss_text = case.format_amount(largest_loss, case.metric)
        return Finding("passed", f"At most {loss_text} worse on {rows_text} (margin: {margin_text}).", evidence)
    if difference.high < -margin:
        bound = case.format_number(-difference.high, case.metric)
        message = f"{change}, a loss above the margin of {margin_text} (lower bound {bound})."
        return Finding("harm", message, evidence)
    if not np.isfinite(difference.low):
        return Finding("inconclusive", describe_undefined(case.metric, rows_text), evidence)
    bound = case.format_number(largest_loss, case.metric)
    message = f"{change}, but too few to rule out a loss above {margin_text} (upper bound {bound})."
    return Finding("inconclusive", message, evidence)


class SliceView(NamedTuple):
    """How a slice is compared: on which rows, by which metric."""

    case: Case
    mask: NDArray[np.bool_]
    metric: str


def view_label(case: Case, name: str) -> SliceView | None:
    """Return how the slice of a label is compared; None for another slice, and where the label's F1 is not defined.

    On the rows of a label alone, a model that says this label for everything is right every time, and no real model
    could ever replace it. F1 counts the rows that were given the label wrongly too. The rule `thresholds` decides as it
    always did.
    """
    kind, _, label = name.partition("=")
    label_score = case.label_score
    if kind != "label" or label_score is None or case.rule.rule_name == "thresholds":
        return None
    mask = case.select_rows("test")
    for stats in (case.scored.challenger, case.scored.champion):
        if stats is None or not np.isfinite(label_score(sum_rows(stats[mask]), label)):
            return None
    by_label = replace(case, metrics=lambda sums: {LABEL_METRIC: label_score(sums, label)})
    return SliceView(by_label, mask, LABEL_METRIC)


def judge_slices(case: Case) -> Iterator[Finding]:
    """Test for slices that lost more than `drop`, where Holm's correction for the number of slices rules out chance."""
    metric = slice_metric(case.metric, case.metrics(sum_rows(case.scored.challenger)))
    tested = 0
    suspects = {}
    for name, slice_mask in case.scored.slices.items():
        mask = slice_mask & case.scored.is_compared
        groups = case.count_rows(mask)[1]
        if groups < case.rule.slice.min_rows:
            continue
        view = view_label(case, name) or SliceView(case, mask, metric)
        loss = measure_slice_loss(view.case, view.mask, view.metric)
        if loss is None:
            continue
        tested += 1
        if not loss <= case.rule.slice.drop:
            suspects[name] = view
    alpha = case.harm_alpha / max(1, tested)
    differences = {name: view.case.measure_difference(view.mask, view.metric, alpha) for name, view in suspects.items()}
    # Slices that lost little count in the correction and cannot be found guilty: a p-value of 1 says both.
    p_values = [difference.p_worse for difference in differences.values()] + [1.0] * (tested - len(differences))
    for (name, difference), level in zip(differences.items(), holm(p_values, case.harm_alpha), strict=False):
        yield judge_slice(case, name, suspects[name].metric, difference, level)
    if tested:
        yield Finding("passed", f"{tested} {'slice' if tested == 1 else 'slices'} tested.")
    else:
        yield Finding("passed", "")


def judge_slice(case: Case, name: str, metric: str, difference: Difference, level: float) -> Finding:
    """Judge one slice that lost more than `drop`: harm, chance, or inconclusive where the metric is undefined."""
    p = difference.p_worse
    is_defined = check_defined(difference)
    is_harm = is_defined and p <= level
    evidence = build_comparison(
        case, "slice", metric, difference, on=name, p=p, threshold=level, passed=is_defined and not is_harm
    )
    if not is_defined:
        message = f"{metric} on the slice {name} is undefined for a model, or in some of its resamples."
        return Finding("inconclusive", message, evidence)
    if not is_harm:
        return Finding("passed", "", evidence)
    change = case.describe_change(difference.estimate, metric)
    rows_text = describe_rows(difference.rows, difference.groups)
    message = f"{change} on the slice {name} ({rows_text}; p = {p:.2g}, threshold {level:.2g})."
    return Finding("harm", message, evidence)


def measure_slice_loss(case: Case, mask: NDArray[np.bool_], metric: str) -> float | None:
    """Return how much worse the challenger is on the selected rows; None where both models' metric is undefined."""
    assert case.scored.champion is not None
    challenger_value = float(case.signed_value(metric, sum_rows(case.scored.challenger[mask])))
    champion_value = float(case.signed_value(metric, sum_rows(case.scored.champion[mask])))
    if np.isnan(challenger_value) and np.isnan(champion_value):
        return None
    return champion_value - challenger_value


def check_row_count(case: Case, test: str, name: str) -> Finding | None:
    """Return a finding if the named rows, or their groups, are fewer than the rule requires."""
    rows, groups = case.count_rows(case.select_rows(name))
    if groups >= case.rule.min_rows:
        return None
    alternative = "superior_on: test" if test == "superior" else "noninferior_on: {test: 0.02}"
    message = (
        f"Only {describe_rows(rows, groups, name)}; {describe_need(case, rows, groups)}. "
        f"Wait for more rows, or set evaluation.gate.{alternative}."
    )
    return Finding(
        "inconclusive", message, build_evidence(test, case.metric, rows, groups=groups, on=name, passed=False)
    )


def build_comparison(case: Case, test: str, metric: str, difference: Difference, **fields: Any) -> dict[str, Any]:
    """Return a comparison as evidence: the difference with higher as better, the two models' metric as it is."""
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
    """Return one piece of evidence, ready for JSON.

    Every key is present; a key that does not apply, or whose value is not a finite number, is None.
    """
    keys = (
        "groups",
        "on",
        "estimate",
        "low",
        "high",
        "p",
        "threshold",
        "passed",
        "challenger",
        "champion",
        "look",
        "fingerprint",
    )
    evidence: dict[str, Any] = {"test": test, "metric": metric, "rows": rows}
    for key in keys:
        value = fields.get(key)
        if isinstance(value, float):
            value = float(value) if np.isfinite(value) else None
        evidence[key] = value
    return evidence


def describe_rows(rows: int, groups: int, kind: str = "") -> str:
    """Write a number of rows, with the number of groups where some rows share one: "483 test rows in 472 groups"."""
    text = f"{rows} {kind} rows" if kind else f"{rows} rows"
    return text if groups == rows else f"{text} in {groups} groups"


def describe_need(case: Case, rows: int, groups: int) -> str:
    """Write how many rows, or groups of rows, the rule requires: "at least 30 groups are needed"."""
    return f"at least {case.rule.min_rows} {'rows' if groups == rows else 'groups'} are needed"


def check_defined(difference: Difference) -> bool:
    """Return whether a difference and its p-value are numbers."""
    return bool(np.isfinite([difference.estimate, difference.p_worse]).all())


def describe_undefined(metric: str, rows_text: str) -> str:
    """Write that a metric cannot be computed on these rows."""
    return f"{metric} is undefined on {rows_text}, or in some of their resamples."
