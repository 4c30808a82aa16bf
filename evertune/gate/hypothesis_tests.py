"""The tests behind the gate, each a finding: minimums, superiority, non-inferiority, slices."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evertune.config import Gate
from evertune.statistics.clusters import summed
from evertune.statistics.paired_tests import Kind, amount, kind_of
from evertune.statistics.resampling import (
    Difference,
    Metrics,
    holm,
    interval,
    paired_difference,
    slice_metric,
    spend,
    totals,
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
        return spend(self.harm_alpha, self.night)

    def sign(self, metric: str) -> int:
        return -1 if metric in self.falling else 1

    def rows(self, name: str) -> NDArray[np.bool_]:
        """Those of one name on which the models are compared; `all`: every test row."""
        fresh, compared = self.scored.fresh, self.scored.compared
        rows = {"fresh": fresh, "history": ~fresh, "test": np.ones_like(fresh)}
        return np.ones_like(fresh) if name == "all" else rows[name] & compared

    @property
    def groups(self) -> NDArray[Any]:
        return np.arange(len(self.scored.fresh)) if self.scored.groups is None else self.scored.groups

    def size(self, mask: NDArray[np.bool_]) -> tuple[int, int]:
        """Rows, and the groups that they stand in."""
        return int(mask.sum()), len(np.unique(self.groups[mask]))

    def difference(self, mask: NDArray[np.bool_], metric: str, alpha: float) -> Difference:
        assert self.scored.champion is not None
        return paired_difference(
            self.scored.challenger[mask], self.scored.champion[mask], partial(self.value, metric),
            groups=self.groups[mask], resamples=self.resamples, seed=self.seed, alpha=alpha, harm_alpha=self.harm_alpha,
            kind=self.kind(metric),
        )  # fmt: skip

    def kind(self, metric: str) -> Kind:
        return kind_of(metric, self.no_shares)

    def amount(self, size: float, metric: str) -> str:
        """A difference of the metric in words: a share in points, other numbers in their own unit."""
        return amount(size, metric, self.kind(metric))

    def change(self, estimate: float, metric: str) -> str:
        """A difference with its direction in words."""
        words = f"{'better' if estimate > 0 else 'worse'} by {self.amount(abs(estimate), metric)}"
        return words if estimate else "no difference"

    def value(self, metric: str, sums: Any) -> Any:
        return self.sign(metric) * self.metrics(sums)[metric]


def first_version(case: Case) -> list[Finding]:
    """Without a champion the minimums decide, and the commonest label, which any use of a model must beat."""
    rows, groups = case.size(case.rows("all"))
    found = list(minimums(case))
    if groups >= case.rule.min_rows:
        return [*found, above_majority(case)]
    words = f"first version on {counted(rows, groups, 'test')}, needs {case.rule.min_rows}; {MORE_ROWS}"
    return found or [Finding("lacking", words, entry("first", case.metric, rows, passed=False))]


def above_majority(case: Case) -> Finding:
    """Better than always giving the commonest label of the test rows."""
    assert case.scored.majority is not None
    ours, theirs = (
        float(case.metrics(totals(one))[case.metric]) for one in (case.scored.challenger, case.scored.majority)
    )
    passed = case.sign(case.metric) * ours > case.sign(case.metric) * theirs
    rows = len(case.scored.fresh)
    evidence = entry("first", case.metric, rows, challenger=ours, threshold=theirs, passed=passed)
    words = f"{case.metric} {ours:.3f} on {rows} test rows, the commonest label alone has {theirs:.3f}"
    if passed:
        return Finding("passed", "" if case.rule.minimum else f"first version: {words}", evidence)
    return Finding("lacking", f"no better than no model: {words}; train longer, or look at the labels", evidence)


def minimums(case: Case) -> Iterator[Finding]:
    """The challenger against each configured minimum, on all test rows."""
    if not case.rule.minimum:
        return
    rows, groups = case.size(case.rows("all"))
    stats = summed(case.scored.challenger, case.groups)
    found = interval(stats, case.metrics, case.resamples, case.rule.confidence, case.seed)
    for metric, least in case.rule.minimum.items():
        estimate, low, high = found[metric]
        sign = case.sign(metric)
        passed = groups >= case.rule.min_rows and sign * estimate >= sign * least
        surely = groups >= case.rule.min_rows and sign * (high if sign > 0 else low) < sign * least
        bounds = {"low": low, "high": high, "threshold": least, "groups": groups}
        evidence = entry("minimum", metric, rows, challenger=estimate, passed=passed, **bounds)
        asked = f"{'at least' if sign > 0 else 'at most'} {least:g} is asked"
        words = f"{metric} {estimate:.3f} on {counted(rows, groups, 'test')}, {asked}"
        if groups < case.rule.min_rows:
            unit = "rows" if groups == rows else "groups"
            words += f", and fewer than {case.rule.min_rows} {unit} prove nothing; {MORE_ROWS}"
        elif not passed:
            words += f" (interval {low:.3f} to {high:.3f})"
        yield Finding("passed" if passed else "harm" if surely else "lacking", words, evidence)


def superior(case: Case) -> Finding:
    """Better on the rows that the rule names, at this night's share of the error budget."""
    name, alpha = case.rule.superior_on, case.alpha
    mask = case.rows(name)
    if short := too_few(case, "superior", name):
        return short
    found = case.difference(mask, case.metric, alpha)
    passed = found.estimate > 0 and found.p_better <= alpha
    p = found.p_better
    evidence = compared(case, "superior", case.metric, found, on=name, p=p, threshold=alpha, passed=passed)
    words, where = case.change(found.estimate, case.metric), f"on {counted(found.rows, found.groups, name)}"
    if not np.isfinite(p):
        return Finding("lacking", f"{case.metric} is undefined {where}, or in some resamples of them", evidence)
    if passed:
        return Finding("passed", f"{words} {where}, p = {p:.2g}, at most {alpha:.2g} is asked", evidence)
    if found.p_worse <= case.harm_alpha:
        return Finding("harm", f"{words} {where}, p = {found.p_worse:.2g}", evidence)
    least = case.kind(case.metric).detectable(found.effective, alpha, found.estimate, found.spread)
    shown = case.amount(least, case.metric)
    words = (
        f"{words} {where}, p = {p:.2g}, needs p <= {alpha:.2g}; {counted(found.rows, found.groups)} can show {shown}"
    )
    return Finding("lacking", words, evidence)


def noninferior(case: Case) -> Iterator[Finding]:
    """Not worse than the margin on each set of rows that the rule names: what forgetting would break."""
    for name, margin in case.rule.noninferior_on.items():
        yield too_few(case, "noninferior", name) or within(case, name, margin)


def within(case: Case, name: str, margin: float) -> Finding:
    """Whether the difference on the named rows is surely above, or surely below, -margin."""
    found = case.difference(case.rows(name), case.metric, case.alpha)
    passed = found.low > -margin
    evidence = compared(case, "noninferior", case.metric, found, on=name, threshold=-margin, passed=passed)
    where, words = f"on {counted(found.rows, found.groups, name)}", case.change(found.estimate, case.metric)
    bound, most = case.amount(max(0.0, -found.low), case.metric), case.amount(margin, case.metric)
    if passed:
        return Finding("passed", f"at most {bound} worse {where}, margin {most}", evidence)
    if found.high < -margin:
        return Finding("harm", f"{words} {where}, surely beyond the margin of {most}", evidence)
    if not np.isfinite(found.low):
        return Finding("lacking", f"{case.metric} is undefined {where}, or in some resamples of them", evidence)
    return Finding("lacking", f"{words} {where}, may be {bound} worse, the margin is {most}", evidence)


def slices(case: Case) -> Iterator[Finding]:
    """Loss in a slice beyond `drop`, where it cannot be chance after Holm's correction for the number of slices."""
    metric = slice_metric(case.metric, case.metrics(totals(case.scored.challenger)))
    tested, suspects = 0, {}
    for name, whole in case.scored.slices.items():
        mask = whole & case.scored.compared
        groups, loss = case.size(mask)[1], slice_loss(case, mask, metric)
        if groups < case.rule.slice.min_rows or loss is None:
            continue
        tested += 1
        if not loss <= case.rule.slice.drop:
            suspects[name] = mask
    alpha = case.harm_alpha / max(1, tested)
    found = {name: case.difference(mask, metric, alpha) for name, mask in suspects.items()}
    # Slices that lost little count in the correction and cannot be found guilty: a p-value of 1 says both.
    p_values = [one.p_worse for one in found.values()] + [1.0] * (tested - len(found))
    for (name, one), level in zip(found.items(), holm(p_values, case.harm_alpha), strict=False):
        yield slice_finding(case, name, metric, one, level)
    yield Finding("passed", f"{tested} slices tested" if tested else "")


def slice_finding(case: Case, name: str, metric: str, found: Difference, level: float) -> Finding:
    """One slice that lost more than `drop`: harm, chance, or, where the metric is undefined, nothing to go by."""
    p = found.p_worse
    defined = bool(np.isfinite([found.estimate, p]).all())
    harm = defined and p <= level
    evidence = compared(case, "slice", metric, found, on=name, p=p, threshold=level, passed=defined and not harm)
    if not defined:
        words = f"{metric} on the slice {name} is undefined in a model or in some resamples"
        return Finding("lacking", words, evidence)
    words = (
        f"{case.change(found.estimate, metric)} on the slice {name} ({counted(found.rows, found.groups)}), p = {p:.2g}"
    )
    return Finding("harm", words, evidence) if harm else Finding("passed", "", evidence)


def slice_loss(case: Case, mask: NDArray[np.bool_], metric: str) -> float | None:
    """How much the challenger is worse on these rows; None where the metric has no meaning for either model."""
    assert case.scored.champion is not None
    ours, theirs = (
        float(case.value(metric, totals(stats[mask]))) for stats in (case.scored.challenger, case.scored.champion)
    )
    return None if np.isnan(ours) and np.isnan(theirs) else theirs - ours


def too_few(case: Case, test: str, name: str) -> Finding | None:
    """Fewer rows, or groups of rows, than the rule asks for are no evidence."""
    (rows, groups), least = case.size(case.rows(name)), case.rule.min_rows
    if groups >= least:
        return None
    other = "superior_on: test" if test == "superior" else "noninferior_on: {test: 0.02}"
    words = f"{counted(rows, groups, name)}, needs {least}; wait for rows, or set evaluation.gate.{other}"
    return Finding("lacking", words, entry(test, case.metric, rows, groups=groups, on=name, passed=False))


def compared(case: Case, test: str, metric: str, found: Difference, **more: Any) -> dict[str, Any]:
    """A comparison as evidence: the difference turned so that higher is better, the two models' metric as it is."""
    sign = case.sign(metric)
    return entry(
        test, metric, found.rows, groups=found.groups, estimate=found.estimate, low=found.low, high=found.high,
        challenger=sign * found.challenger, champion=sign * found.champion, **more,
    )  # fmt: skip


def entry(test: str, metric: str, rows: int, **more: Any) -> dict[str, Any]:
    """One piece of evidence, JSON-ready: every key is there, what does not apply or is not a number is None."""
    keys = ("groups", "on", "estimate", "low", "high", "p", "threshold", "passed", "challenger", "champion")
    values = {key: more.get(key) for key in keys}
    cleaned = {key: (float(x) if np.isfinite(x) else None) if isinstance(x, float) else x for key, x in values.items()}
    return {"test": test, "metric": metric, "rows": rows, **cleaned}


def counted(rows: int, groups: int, which: str = "") -> str:
    """Rows in words, with their groups where some of them stand together."""
    words = f"{rows} {which} rows" if which else f"{rows} rows"
    return words if groups == rows else f"{words} in {groups} groups"
