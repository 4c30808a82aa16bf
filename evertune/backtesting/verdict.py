"""Summarise a replayed history by policy, and recommend one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evertune.errors import DataError
from evertune.statistics.paired_tests import SHARE, MetricKind, format_amount

TOLERANCE = 0.005  # of the metric: a policy no further below the best counts as equally good
RESAMPLES = 2000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """One policy at the end of one window.

    Args:
        policy: its name.
        window: number of the window.
        day: first day of the next window, which is scored.
        rows: number of rows of the next window.
        metrics: of the model in use on these rows; empty without rows.
        retrained: whether a model was trained.
        promoted: whether it was promoted.
        wrong: whether the promotion made the metric of the next window worse.
        before: metric of the replaced model in the next window.
        verdict: of the gate; None without a gate.
        reason: of the gate; None without a gate.
        drift: p-value; None if drift was not measured.
        seconds: of training.
        model: number of the window at whose end the model in use was trained.
        replaced: the same of the model that it replaced at the end of this window; None where it replaced none.
    """

    policy: str
    window: int
    day: str
    rows: int
    metrics: dict[str, float | None]
    retrained: bool = False
    promoted: bool = False
    wrong: bool = False
    before: float | None = None
    verdict: str | None = None
    reason: str | None = None
    drift: float | None = None
    seconds: float = 0.0
    model: int = 0
    replaced: int | None = None


@dataclass(frozen=True)
class Summary:
    """A policy over all windows.

    Args:
        policy: its name.
        metric: mean over the windows where it is defined; None if it is defined in none.
        below: how far it is below the best policy; None if no window has the metric of both.
        low: lower end of its 95% interval over windows.
        high: upper end.
        windows: number of windows with the metric of both.
        retrainings: number of trained models.
        promotions: number of promoted models.
        wrong: number of promotions that made the next window worse.
        seconds: of training.
    """

    policy: str
    metric: float | None
    below: float | None
    low: float | None
    high: float | None
    windows: int
    retrainings: int
    promotions: int
    wrong: int
    seconds: float


def summarize_policies(steps: Sequence[Step], metric: str, falls: bool) -> list[Summary]:
    """Return a summary of each policy, in the order of their first steps.

    Args:
        steps: of all policies.
        metric: the metric that policies are compared by.
        falls: whether the metric falls as a model improves.
    Raises:
        DataError: the metric is undefined in every window.
    """
    policies = list(dict.fromkeys(step.policy for step in steps))
    sign = -1 if falls else 1
    values = {name: _collect_values([step for step in steps if step.policy == name], metric) for name in policies}
    defined = [name for name in policies if not np.isnan(values[name]).all()]
    if not defined:
        raise DataError(
            f"{metric} is undefined in every window that was scored: there are too few rows, or all answers are alike; "
            "set longer windows with --every, set another evaluation.metric, or train longer"
        )
    best = max(defined, key=lambda name: sign * float(np.nanmean(values[name])))
    return [_summarize_policy(name, steps, values[name], sign * (values[best] - values[name])) for name in policies]


def _collect_values(steps: Sequence[Step], metric: str) -> Floats:
    values = [step.metrics.get(metric) for step in steps]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _summarize_policy(name: str, steps: Sequence[Step], values: Floats, below: Floats) -> Summary:
    own = [step for step in steps if step.policy == name]
    differences = below[~np.isnan(below)]
    defined = values[~np.isnan(values)]
    gap, low, high = _compute_interval(differences)
    return Summary(
        policy=name,
        metric=float(defined.mean()) if len(defined) else None,
        below=gap,
        low=low,
        high=high,
        windows=len(differences),
        retrainings=sum(step.retrained for step in own),
        promotions=sum(step.promoted for step in own),
        wrong=sum(step.wrong for step in own),
        seconds=sum(step.seconds for step in own),
    )


def _compute_interval(differences: Floats) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return the mean of some differences and its 95% bootstrap interval."""
    if not len(differences):
        return None, None, None
    means = np.random.default_rng(0).choice(differences, (RESAMPLES, len(differences))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def recommend_policy(policies: Sequence[Summary]) -> Summary:
    """Return, of the policies as good as the best, the one with the fewest wrong promotions, then the cheapest."""
    candidates = [
        (summary.wrong, summary.seconds, below, summary)
        for summary, below in _list_comparable(policies)
        if below <= TOLERANCE
    ]
    return min(candidates, key=lambda candidate: candidate[:3])[3]


def _list_comparable(policies: Sequence[Summary]) -> list[tuple[Summary, float]]:
    """Return the policies that can be compared with the best, itself included, and how far each is below it."""
    return [(summary, summary.below) for summary in policies if summary.below is not None]


def explain_choice(policies: Sequence[Summary], metric: str, kind: MetricKind = SHARE) -> str:
    """Return the recommendation with its evidence as one sentence."""
    chosen = recommend_policy(policies)
    best = min(_list_comparable(policies), key=lambda pair: pair[1])[0]
    cost = f"{_format_count(chosen.wrong, 'wrong promotion')} and {chosen.seconds:,.0f} s of training"
    words = f"{chosen.policy}: mean {metric} {chosen.metric:.4f} over {_format_count(chosen.windows, 'window')}, {cost}"
    if chosen is not best:
        assert chosen.below is not None and chosen.low is not None and chosen.high is not None
        gap = format_amount(chosen.below, metric, kind, 2)
        low = format_amount(chosen.low, metric, kind, 2).partition(" ")[0]
        high = format_amount(chosen.high, metric, kind, 2).partition(" ")[0]
        words += (
            f"; {best.policy} is better by {gap} (95% interval {low} to {high}), with "
            f"{_format_count(best.wrong, 'wrong promotion')} and {best.seconds:,.0f} s"
        )
        return words
    refusal = _explain_refusal(policies, chosen, metric, kind)
    if refusal:
        words += f"; {refusal}"
    return words


def _explain_refusal(policies: Sequence[Summary], chosen: Summary, metric: str, kind: MetricKind) -> str:
    """Explain why the gated policy is not recommended; empty if it was not tried, or is as good."""
    losers = [pair for pair in _list_comparable(policies) if pair[0].policy.startswith("gated") and pair[1] > TOLERANCE]
    if not losers or chosen.policy.startswith("gated"):
        return ""
    gated, below = losers[0]
    gap = format_amount(below, metric, kind, 2)
    if gated.wrong:
        reason = _format_count(gated.wrong, "wrong promotion")
    else:
        reason = "its gate requires more evidence than the rows provide"
    return f"{gated.policy} would lose {gap} here: {reason}"


def _format_count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
