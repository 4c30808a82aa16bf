"""Summarise a replayed history by policy, and recommend one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evertune.errors import DataError
from evertune.statistics.paired_tests import SHARE, MetricKind, format_amount

CAUTION = 6.0  # how many points of missed gain one lost point is worth, where the recipe's gate does not say
EQUAL = 1e-9  # utilities closer than this are equal
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
        models: names of these two models' files.
        lost: points of the metric that the promotion is expected to have lost; None where none was measured.
        chance_wrong: probability that the new model is worse than the old one.
        proven_wrong: whether it is surely worse, by Holm's correction for all promotions of the policy.
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
    models: tuple[str, str] | None = None
    lost: float | None = None
    chance_wrong: float | None = None
    proven_wrong: bool = False


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
        wrong: number of promotions that made the next window worse, as counted before scores were kept.
        seconds: of training.
        lost: points of the metric that its promotions are expected to have lost, summed.
        lost_low: lower end of the 95% interval of `lost`.
        lost_high: upper end.
        expected_wrong: expected number of promotions of a worse model.
        proven_wrong: number of promotions that are surely wrong.
        utility: mean metric, turned so that higher is better, less (caution - 1) times `lost` a window.
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
    lost: float = 0.0
    lost_low: float = 0.0
    lost_high: float = 0.0
    expected_wrong: float = 0.0
    proven_wrong: int = 0
    utility: float | None = None


def summarize_policies(steps: Sequence[Step], metric: str, falls: bool, caution: float = CAUTION) -> list[Summary]:
    """Return a summary of each policy, in the order of their first steps.

    Args:
        steps: of all policies.
        metric: the metric that policies are compared by.
        falls: whether the metric falls as a model improves.
        caution: how many points of missed gain one lost point is worth.
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
    return [
        _summarize_policy(name, steps, values[name], sign * (values[best] - values[name]), sign, caution)
        for name in policies
    ]


def _collect_values(steps: Sequence[Step], metric: str) -> Floats:
    values = [step.metrics.get(metric) for step in steps]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _summarize_policy(
    name: str, steps: Sequence[Step], values: Floats, below: Floats, sign: int, caution: float
) -> Summary:
    own = [step for step in steps if step.policy == name]
    differences = below[~np.isnan(below)]
    defined = values[~np.isnan(values)]
    gap, low, high = _compute_interval(differences)
    losses = np.array([step.lost or 0.0 for step in own])
    _, lost_low, lost_high = _compute_interval(losses)
    lost = float(losses.sum())
    mean = float(defined.mean()) if len(defined) else None
    return Summary(
        policy=name,
        metric=mean,
        below=gap,
        low=low,
        high=high,
        windows=len(differences),
        retrainings=sum(step.retrained for step in own),
        promotions=sum(step.promoted for step in own),
        wrong=sum(step.wrong for step in own),
        seconds=sum(step.seconds for step in own),
        lost=lost,
        lost_low=len(own) * (lost_low or 0.0),
        lost_high=len(own) * (lost_high or 0.0),
        expected_wrong=sum(step.chance_wrong or 0.0 for step in own),
        proven_wrong=sum(step.proven_wrong for step in own),
        utility=None if mean is None else sign * mean - (caution - 1) * lost / len(own),
    )


def _compute_interval(differences: Floats) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return the mean of some differences and its 95% bootstrap interval."""
    if not len(differences):
        return None, None, None
    means = np.random.default_rng(0).choice(differences, (RESAMPLES, len(differences))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def recommend_policy(policies: Sequence[Summary]) -> Summary:
    """Return the policy with the highest utility; of equal ones the cheapest."""
    candidates = _list_comparable(policies)
    best = max(utility for _, utility in candidates)
    equal = [summary for summary, utility in candidates if utility >= best - EQUAL]
    return min(equal, key=lambda summary: (summary.seconds, summary.expected_wrong))


def _list_comparable(policies: Sequence[Summary]) -> list[tuple[Summary, float]]:
    """Return the policies that can be compared with the best, itself included, each with its utility."""
    return [
        (summary, summary.utility) for summary in policies if summary.utility is not None and summary.below is not None
    ]


def explain_choice(policies: Sequence[Summary], metric: str, kind: MetricKind = SHARE) -> str:
    """Return the recommendation with its evidence as one sentence."""
    chosen = recommend_policy(policies)
    words = f"{chosen.policy}: mean {metric} {chosen.metric:.4f} over {_format_count(chosen.windows, 'window')}, "
    words += f"{_describe_losses(chosen, metric, kind)} and {chosen.seconds:,.0f} s of training"
    best = min((summary for summary, _ in _list_comparable(policies)), key=_get_distance)
    if chosen is not best and chosen.below is not None and chosen.below > 0:
        assert chosen.low is not None and chosen.high is not None
        gap = format_amount(chosen.below, metric, kind, 2)
        low = format_amount(chosen.low, metric, kind, 2).partition(" ")[0]
        high = format_amount(chosen.high, metric, kind, 2).partition(" ")[0]
        words += (
            f"; {best.policy} is better by {gap} a window (95% interval {low} to {high}), but its promotions lost "
            f"{format_amount(best.lost, metric, kind, 2)}"
        )
    return words


def _get_distance(summary: Summary) -> float:
    return float("inf") if summary.below is None else summary.below


def _describe_losses(summary: Summary, metric: str, kind: MetricKind) -> str:
    """Describe what the promotions of a policy lost: "5 promotions that lost 0.21 points"."""
    replacements = max(0, summary.promotions - 1)  # the first model replaced none
    if not replacements:
        return "no promotion"
    return f"{_format_count(replacements, 'promotion')} that lost {format_amount(summary.lost, metric, kind, 2)}"


def _format_count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
