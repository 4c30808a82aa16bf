"""What a look for drift has found, in words for a person."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evertune.statistics import two_sample as drift
from evertune.statistics.two_sample import Finding, Rows

SHOWN = 5  # labels or words that a sentence names


def reason(findings: Sequence[dict[str, Any]], p: float, level: float, drifted: bool) -> str:
    if not drifted:
        return f"p = {p:.2g}, {level:.2g} or less would tell of drift"
    told = [f"{one['test']} ({one['words']})" for one in sorted(findings, key=lambda one: one["p"]) if one["found"]]
    return f"p = {p:.2g}: {'; '.join(told)}"


def words(found: Finding, before: Rows, now: Rows, predictor: Any) -> str:
    """What changed, in words; of kinds of rows that the sides hold in other shares each has the same weight on both.

    Args:
        before, now: at least one kind of rows stands on both sides.
    """
    weights, test = drift.weights(before, now), found.test
    if test == "length":
        return _means(before.lengths, now.lengths, weights, "{:.1f} tokens in the mean, {:.1f} now")
    if test == "confidence":
        return _means(before.scores, now.scores, weights, "{:.3f} in the mean, {:.3f} now")
    if test == "performance":
        was, are = (1 - np.asarray(side.wrong) for side in (before, now))
        return _means(was, are, weights, "{:.1%} of the rows right, {:.1%} now")
    if test == "prediction":
        return _most(*_sides([[[label] for label in side.predicted.tolist()] for side in (before, now)], weights))  # type: ignore[union-attr]
    if test == "language":
        return _came(*_sides([[[one] for one in side.languages.tolist()] for side in (before, now)], weights))  # type: ignore[union-attr]
    if test == "vocabulary":
        sides = _sides([[np.unique(row).tolist() for row in side.tokens or []] for side in (before, now)], weights)
        return _most(*({predictor.tokenizer.decode([one]).strip(): share for one, share in side.items()}
                       for side in sides))  # fmt: skip
    return f"what they mean is {found.statistic:.2g} apart, {found.usual:.2g} by chance"


def _means(before: Any, now: Any, weights: tuple[Any, Any], words: str) -> str:
    sides = zip((before, now), weights, strict=True)
    return words.format(*(float(np.average(values, weights=weight)) for values, weight in sides))


def _sides(sides: Sequence[Any], weights: tuple[Any, Any]) -> list[dict[Any, float]]:
    return [_shares(rows, weight.tolist()) for rows, weight in zip(sides, weights, strict=True)]


def _shares(rows: Sequence[Sequence[Any]], weights: Sequence[float]) -> dict[Any, float]:
    """The share of rows that have each value."""
    found: dict[Any, float] = {}
    for row, weight in zip(rows, weights, strict=True):
        for value in row:
            found[value] = found.get(value, 0.0) + weight
    return found


def _came(before: dict[Any, float], now: dict[Any, float]) -> str:
    """The values whose shares have grown most."""
    grown = sorted(now, key=lambda value: (before.get(value, 0.0) - now[value], str(value)))[:2]
    return ", ".join(f"{value!r} {before.get(value, 0):.1%} to {now[value]:.1%}" for value in grown)


def _most(before: dict[Any, float], now: dict[Any, float]) -> str:
    """The values whose shares changed most."""
    change = {value: now.get(value, 0.0) - before.get(value, 0.0) for value in {*before, *now}}
    top = sorted(change, key=lambda value: (-abs(change[value]), str(value)))[:SHOWN]
    return ", ".join(f"{value!r} {before.get(value, 0):.0%} to {now.get(value, 0):.0%}" for value in top)
