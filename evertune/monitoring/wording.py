"""The result of a drift check in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evertune.statistics import two_sample
from evertune.statistics.two_sample import Finding, Sample

MAX_SHOWN = 5  # labels or words that a sentence names


def describe_drift(findings: Sequence[dict[str, Any]], p: float, level: float, drifted: bool) -> str:
    """Return the result in one sentence.

    Args:
        findings: each with `test`, `p`, `found` and `words`.
        p: of all tests together.
        level: below which `p` means drift.
    """
    if not drifted:
        return f"no drift (p = {p:.2g}, threshold {level:.2g})"
    descriptions = [
        f"{finding['test']} ({finding['words']})"
        for finding in sorted(findings, key=lambda finding: finding["p"])
        if finding["found"]
    ]
    return f"p = {p:.2g}: {'; '.join(descriptions)}"


def describe_finding(finding: Finding, before: Sample, now: Sample, predictor: Any) -> str:
    """Return what changed, in words; each kind of rows has the same weight on both sides.

    Args:
        before, now: samples with at least one kind of rows in common.
        predictor: of the champion; its tokenizer decodes tokens.
    """
    weights = two_sample.compute_weights(before, now)
    test = finding.test
    if test == "length":
        return _describe_means(before.lengths, now.lengths, weights, "{:.1f} tokens on average before, {:.1f} now")
    if test == "confidence":
        return _describe_means(before.scores, now.scores, weights, "{:.3f} on average before, {:.3f} now")
    if test == "performance":
        share_before, share_now = (1 - np.asarray(side.wrong) for side in (before, now))
        return _describe_means(share_before, share_now, weights, "{:.1%} of rows correct before, {:.1%} now")
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
    return f"embedding distance {finding.statistic:.2g} ({finding.usual:.2g} expected by chance)"


def _wrap_values(*sides: Any) -> list[list[list[Any]]]:
    """Return, for each side, a list with a one-element list for each row."""
    return [[[value] for value in side.tolist()] for side in sides]


def _describe_means(before: Any, now: Any, weights: tuple[Any, Any], template: str) -> str:
    sides = zip((before, now), weights, strict=True)
    return template.format(*(float(np.average(values, weights=weight)) for values, weight in sides))


def _compute_shares(sides: Sequence[Any], weights: tuple[Any, Any]) -> list[dict[Any, float]]:
    return [_sum_shares(rows, weight.tolist()) for rows, weight in zip(sides, weights, strict=True)]


def _sum_shares(rows: Sequence[Sequence[Any]], weights: Sequence[float]) -> dict[Any, float]:
    """Return the share of rows with each value."""
    shares: dict[Any, float] = {}
    for row, weight in zip(rows, weights, strict=True):
        for value in row:
            shares[value] = shares.get(value, 0.0) + weight
    return shares


def _describe_growth(before: dict[Any, float], now: dict[Any, float]) -> str:
    """Return the values with the largest growth, in words."""
    grown = sorted(now, key=lambda value: (before.get(value, 0.0) - now[value], str(value)))[:2]
    return ", ".join(f"{value!r} {before.get(value, 0):.1%} to {now[value]:.1%}" for value in grown)


def _describe_changes(before: dict[Any, float], now: dict[Any, float]) -> str:
    """Return the values with the largest change, in words."""
    change = {value: now.get(value, 0.0) - before.get(value, 0.0) for value in {*before, *now}}
    top = sorted(change, key=lambda value: (-abs(change[value]), str(value)))[:MAX_SHOWN]
    return ", ".join(f"{value!r} {before.get(value, 0):.0%} to {now.get(value, 0):.0%}" for value in top)
