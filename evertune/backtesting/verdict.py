"""What a replayed history says of the policies: sums by policy, and the one to take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evertune.errors import DataError
from evertune.statistics.paired_tests import SHARE, MetricKind, format_amount

TOLERANCE = 0.005  # of the metric: a policy that is no further below the best is as good
RESAMPLES = 2000


@dataclass(frozen=True)
class Step:
    """One policy at the end of one window.

    Args:
        window: its number; day: the first of the next window, which is scored.
        rows: of that window; metrics: of the model in use on them, empty where there are none.
        retrained, promoted: what was done.
        verdict, reason: of the gate, where it was asked.
        wrong: whether the promotion made the next window worse.
        before: the main metric that the replaced model has there.
        drift: p-value, where drift was looked for.
        seconds: of training.
        model: window whose end the model in use was trained at.
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


@dataclass(frozen=True)
class Summary:
    """A policy over all windows.

    Args:
        metric: mean over the windows where it is defined; None where it is in none.
        below: how far it is below the best policy; low, high: the 95% interval of that, over windows. None where no
            window has the metric of both.
        windows: those that tell of the difference.
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
    """One of each policy, in their order.

    Args:
        falls: whether the metric falls as a model improves.
    Raises:
        DataError: no model has the metric in any window.
    """
    policies = list(dict.fromkeys(step.policy for step in steps))
    sign = -1 if falls else 1
    values = {name: _collect_values([step for step in steps if step.policy == name], metric) for name in policies}
    defined = [name for name in policies if not np.isnan(values[name]).all()]
    if not defined:
        raise DataError(
            f"{metric} is undefined in every window that was scored: of so few rows, or of answers that are all "
            "alike, it is no number; take longer windows with --every, name another evaluation.metric, or train longer"
        )
    best = max(defined, key=lambda name: sign * float(np.nanmean(values[name])))
    return [_summarize_policy(name, steps, values[name], sign * (values[best] - values[name])) for name in policies]


def _collect_values(steps: Sequence[Step], metric: str) -> Any:
    values = [step.metrics.get(metric) for step in steps]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _summarize_policy(name: str, steps: Sequence[Step], values: Any, below: Any) -> Summary:
    own = [step for step in steps if step.policy == name]
    differences = below[~np.isnan(below)]
    defined = values[~np.isnan(values)]
    gap, low, high = _compute_interval(differences)
    return Summary(
        name,
        float(defined.mean()) if len(defined) else None,
        gap,
        low,
        high,
        len(differences),
        sum(step.retrained for step in own),
        sum(step.promoted for step in own),
        sum(step.wrong for step in own),
        sum(step.seconds for step in own),
    )


def _compute_interval(differences: Any) -> tuple[float, float, float] | tuple[None, None, None]:
    """Mean of some differences and its 95% interval."""
    if not len(differences):
        return None, None, None
    means = np.random.default_rng(0).choice(differences, (RESAMPLES, len(differences))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def recommend_policy(policies: Sequence[Summary]) -> Summary:
    """Of the policies that are as good as the best the one with the fewest wrong promotions, then the cheapest."""
    candidates = [
        (summary.wrong, summary.seconds, below, summary)
        for summary, below in _list_comparable(policies)
        if below <= TOLERANCE
    ]
    return min(candidates, key=lambda candidate: candidate[:3])[3]


def _list_comparable(policies: Sequence[Summary]) -> list[tuple[Summary, float]]:
    """The policies that could be compared with the best, which is one of them, and how far each is below."""
    return [(summary, summary.below) for summary in policies if summary.below is not None]


def explain_choice(policies: Sequence[Summary], metric: str, kind: MetricKind = SHARE) -> str:
    """The recommendation with its evidence."""
    chosen = recommend_policy(policies)
    (best, _) = min(_list_comparable(policies), key=lambda pair: pair[1])
    cost = f"{_format_count(chosen.wrong, 'wrong promotion')} and {chosen.seconds:,.0f} s of training"
    words = f"{chosen.policy}: mean {metric} {chosen.metric:.4f} over {_format_count(chosen.windows, 'window')}, {cost}"
    if chosen is not best:
        gap, *ends = (
            format_amount(value, metric, kind, 2)
            for value in (chosen.below, chosen.low, chosen.high)
            if value is not None
        )
        low, high = (end.partition(" ")[0] for end in ends)
        words += f"; {best.policy} is better by {gap} (95% interval {low} to {high}), "
        words += f"with {_format_count(best.wrong, 'wrong promotion')} and "
        words += f"{best.seconds:,.0f} s"
    elif gated := _explain_refusal(policies, chosen, metric, kind):
        words += f"; {gated}"
    return words


def _explain_refusal(policies: Sequence[Summary], chosen: Summary, metric: str, kind: MetricKind) -> str:
    """Why not the gated policy, where it was tried and is not as good."""
    losers = [pair for pair in _list_comparable(policies) if pair[0].policy.startswith("gated") and pair[1] > TOLERANCE]
    if not losers or chosen.policy.startswith("gated"):
        return ""
    gated, below = losers[0]
    gap = format_amount(below, metric, kind, 2)
    reason = (
        _format_count(gated.wrong, "wrong promotion") if gated.wrong else "its gate asks for more than the rows show"
    )
    return f"{gated.policy} would lose {gap} here: {reason}"


def _format_count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
