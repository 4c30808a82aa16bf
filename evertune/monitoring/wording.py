"""What a look for drift has found, in words for a person."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evertune.statistics import two_sample
from evertune.statistics.two_sample import Finding, Sample

SHOWN = 5  # labels or words that a sentence names


def describe_drift(findings: Sequence[dict[str, Any]], p: float, level: float, drifted: bool) -> str:
    if not drifted:
        return f"p = {p:.2g}, {level:.2g} or less would tell of drift"
    descriptions = [
        f"{finding['test']} ({finding['words']})"
        for finding in sorted(findings, key=lambda finding: finding["p"])
        if finding["found"]
    ]
    return f"p = {p:.2g}: {'; '.join(descriptions)}"


def describe_finding(finding: Finding, before: Sample, now: Sample, predictor: Any) -> str:
    """What changed, in words; of kinds of rows that the sides hold in other shares each has the same weight on both.

    Args:
        before, now: at least one kind of rows stands on both sides.
    """
    weights = two_sample.compute_weights(before, now)
    test = finding.test
    if test == "length":
        return _describe_means(before.lengths, now.lengths, weights, "{:.1f} tokens in the mean, {:.1f} now")
    if test == "confidence":
        return _describe_means(before.scores, now.scores, weights, "{:.3f} in the mean, {:.3f} now")
    if test == "performance":
        share_before, share_now = (1 - np.asarray(side.wrong) for side in (before, now))
        return _describe_means(share_before, share_now, weights, "{:.1%} of the rows right, {:.1%} now")
    if test == "prediction":
        return _describe_changes(*_compute_shares(_wrap_values(before.predicted, now.predicted), weights))
    if test == "language":
        return _describe_growth(*_compute_shares(_wrap_values(before.languages, now.languages), weights))
    if test == "vocabulary":
        sides = _compute_shares(
            [[np.unique(row).tolist() for row in side.tokens or []] for side in (before, now)], weights
        )
        return _describe_changes(
            *({predictor.tokenizer.decode([token]).strip(): share for token, share in side.items()} for side in sides)
        )
    return f"what they mean is {finding.statistic:.2g} apart, {finding.usual:.2g} by chance"


def _wrap_values(*sides: Any) -> list[list[list[Any]]]:
    """For each side, a list of its rows, each a list with its only value."""
    return [[[value] for value in side.tolist()] for side in sides]


def _describe_means(before: Any, now: Any, weights: tuple[Any, Any], template: str) -> str:
    sides = zip((before, now), weights, strict=True)
    return template.format(*(float(np.average(values, weights=weight)) for values, weight in sides))


def _compute_shares(sides: Sequence[Any], weights: tuple[Any, Any]) -> list[dict[Any, float]]:
    return [_sum_shares(rows, weight.tolist()) for rows, weight in zip(sides, weights, strict=True)]


def _sum_shares(rows: Sequence[Sequence[Any]], weights: Sequence[float]) -> dict[Any, float]:
    """The share of rows that have each value."""
    shares: dict[Any, float] = {}
    for row, weight in zip(rows, weights, strict=True):
        for value in row:
            shares[value] = shares.get(value, 0.0) + weight
    return shares


def _describe_growth(before: dict[Any, float], now: dict[Any, float]) -> str:
    """The values whose shares have grown most."""
    grown = sorted(now, key=lambda value: (before.get(value, 0.0) - now[value], str(value)))[:2]
    return ", ".join(f"{value!r} {before.get(value, 0):.1%} to {now[value]:.1%}" for value in grown)


def _describe_changes(before: dict[Any, float], now: dict[Any, float]) -> str:
    """The values whose shares changed most."""
    change = {value: now.get(value, 0.0) - before.get(value, 0.0) for value in {*before, *now}}
    top = sorted(change, key=lambda value: (-abs(change[value]), str(value)))[:SHOWN]
    return ", ".join(f"{value!r} {before.get(value, 0):.0%} to {now.get(value, 0):.0%}" for value in top)
