"""The metrics of both models: on all test rows, on parts of them, and on slices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evertune.objectives import TABLE, load_objective
from evertune.report.formatting import format_count, format_interval, format_number, is_number, subtract_known
from evertune.report.view import Cell, Chief, Column, Table, Tone, Toned, interval, make_bar, number, prose, text

Json = dict[str, Any]
SHOWN_SCORES = 4  # metrics of a simple model; it has as many as the others
Interval = Sequence[float | None] | None
ROW_SETS = {
    "test": "all test rows",
    "test_clean": "test rows without leaks",
    "fresh": "fresh test rows",
    "history": "older test rows",
    "new_labels": "labels new to the champion",
}
MOST = 200  # slices, or classes, in a table: with thousands of labels the page would grow to megabytes


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the base model reaches without training.

    Args:
        missing: why there is no baseline.
        how: the answers were found; scores: metric by metric.
    """

    missing: str | None
    how: str = ""
    scores: str = ""
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Slices:
    """The metric on each slice.

    Args:
        is_compared: with a champion.
    """

    metric: str
    is_compared: bool
    table: Table


def both_models(details: Json) -> tuple[Json, Json]:
    """Return the details of challenger and champion, empty where there is none."""
    return details.get("challenger") or {}, details.get("champion") or {}


def build_metrics(details: Json) -> Table:
    """Return every metric on the test rows, that of the gate first."""
    challenger, champion = both_models(details)
    chief = details.get("metric")
    columns = [text("Metric"), number("Challenger"), interval("Interval")]
    if champion:
        columns += compare_columns("Champion")
    names = sorted((challenger.get("metrics") or {}).get("test", {}), key=lambda name: name != chief)
    return Table(columns, [_metric_row(name, name == chief, challenger, champion) for name in names])


def _metric_row(name: str, is_chief: bool, challenger: Json, champion: Json) -> list[Cell]:
    value = _metric_on(challenger, "test", name)
    row: list[Cell] = [
        Chief(name) if is_chief else name,
        format_number(value),
        format_bounds(challenger.get("intervals", {}).get(name)),
    ]
    if champion:
        champion_interval = champion.get("intervals", {}).get(name)
        row += compare_values(value, _metric_on(champion, "test", name), name, champion_interval)
    return row


def build_row_sets(details: Json) -> Table:
    """Return the gate's metric on each part of the test rows; test rows without leaks only where there are leaks."""
    challenger, champion = both_models(details)
    metric = str(details.get("metric"))
    sizes = details.get("rows", {})
    row_sets = [key for key in ROW_SETS if key in (challenger.get("metrics") or {})]
    if sizes.get("test_clean") == sizes.get("test"):
        row_sets = [key for key in row_sets if key != "test_clean"]
    columns = [text(f"{metric} on"), number("Rows"), number("Challenger")]
    if champion:
        columns += [number("Champion"), number("Change")]
    rows: list[list[Cell]] = []
    for key in row_sets:
        value = _metric_on(challenger, key, metric)
        row: list[Cell] = [ROW_SETS[key], format_count(sizes.get(key)), make_bar(value, format_number(value))]
        if champion:
            row += _show_change(value, _metric_on(champion, key, metric), metric)
        rows.append(row)
    return Table(columns, rows if len(rows) > 1 else ())


def build_baseline(baseline: Json | None) -> Baseline | None:
    """Return what the base model reaches without training, or why that is not known."""
    if not baseline:
        return None
    if reason := baseline.get("why"):
        return Baseline(missing=reason)
    scores = ", ".join(f"{name} {value:.4f}" for name, value in baseline["metrics"].items())
    return Baseline(None, baseline["how"], scores, baseline["rows"])


def describe_word_baseline(baseline: Json | None) -> str | None:
    """Write what a simple model of the words reaches; None where there is none."""
    if not baseline:
        return None
    known = [f"{name} {value:.4f}" for name, value in baseline["metrics"].items() if value is not None]
    scores = ", ".join(known[:SHOWN_SCORES])
    return (
        f"A simple model, {baseline['how']} on {format_count(baseline['train_rows'])} train rows, reaches {scores} on "
        f"{format_count(baseline['rows'])} test rows."
    )


def build_slices(details: Json) -> Slices:
    """Return the metric on each slice of the test rows, the greatest losses first."""
    metric = str(details.get("slice_metric") or details.get("metric"))
    is_compared = bool(details.get("champion"))
    columns = [prose("Slice"), number("Rows"), number("Challenger"), interval("Interval")]
    if is_compared:
        columns += compare_columns("Champion")
    ranked = sorted((details.get("slices") or {}).items(), key=lambda item: _rank_slice(item[1], metric, is_compared))
    rows: list[list[Cell]] = []
    for name, entry in ranked[:MOST]:
        value = entry.get("challenger")
        bounds = entry.get("intervals", {})
        row: list[Cell] = [
            name,
            format_count(entry.get("rows")),
            make_bar(value, format_number(value)),
            format_bounds(bounds.get("challenger")),
        ]
        if is_compared:
            row += compare_values(value, entry.get("champion"), metric, bounds.get("champion"))
        rows.append(row)
    return Slices(metric, is_compared, Table(columns, rows, hidden=max(0, len(ranked) - MOST)))


def _rank_slice(entry: Json, metric: str, is_compared: bool) -> tuple[float, ...]:
    """Return what slices are sorted by; those without a value come last."""
    score = entry.get("challenger")
    sign = -1 if metric in falling_metrics() else 1
    difference = subtract_known(score, entry.get("champion")) if is_compared else None
    return tuple(sign * value if is_number(value) else math.inf for value in (difference, score))


def compare_columns(champion: str) -> list[Column]:
    """Return the columns of `compare_values`.

    Args:
        champion: heading of the champion's value.
    """
    return [number(champion), interval("Champion interval"), number("Change")]


def compare_values(
    value: float | None, champion_value: float | None, metric: str, champion_interval: Interval
) -> list[Cell]:
    """Return the champion's value, its interval, and the challenger's difference from it."""
    shown_value, change = _show_change(value, champion_value, metric)
    return [shown_value, format_bounds(champion_interval), change]


def format_bounds(bounds: Interval) -> str | None:
    """Write low and high, the last two of an interval; None where all resamples are alike and tell nothing."""
    if not bounds or bounds[-2] == bounds[-1]:
        return None
    return format_interval(bounds[-2], bounds[-1])


def _show_change(value: float | None, champion_value: float | None, metric: str) -> list[Cell]:
    """Return the champion's value and the challenger's difference from it."""
    difference = subtract_known(value, champion_value)
    return [format_number(champion_value), Toned(format_number(difference, signed=True), _judge(difference, metric))]


def _judge(difference: float | None, metric: str) -> Tone:
    if difference is None or round(difference, 4) == 0:
        return ""
    return "good" if (difference < 0) == (metric in falling_metrics()) else "bad"


def _metric_on(model: Json, row_set: str, metric: str) -> float | None:
    value: float | None = model.get("metrics", {}).get(row_set, {}).get(metric)
    return value


def falling_metrics() -> frozenset[str]:
    """Return the metrics of all objectives that are better when lower."""
    return frozenset(metric for name in TABLE for metric in load_objective(name).LOWER_IS_BETTER)
