"""The run's pictures, drawn on figures of their own: no pyplot, no global state."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.report.formatting import is_number
from evertune.report.view import DPI

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]
MOST = 40  # classes in one picture; a name beside each stays readable
LONGEST = 26  # characters of a class name
INK = "#33373c"
SOFT = "#6b7178"
LINE = "#d9dce0"
OURS = "#2563eb"  # apart also for the colour-blind
THEIRS = "#d97706"


def draw_pictures(folder: Path, details: Json, history: list[Json]) -> dict[str, Path]:
    """Draw `loss_curve`, `confusion`, `per_class` and `calibration` as PNGs, those that the data allow.

    Args:
        details: what `evaluate` wrote; history: metrics by step, oldest first.
    Raises:
        OSError: the folder cannot be written.
    """
    challenger = details.get("challenger") or {}
    champion = details.get("champion") or {}
    figures = {
        "loss_curve": draw_loss_curve(history, details.get("metric")),
        "confusion": draw_confusion(challenger.get("confusion") or {}),
        "per_class": draw_per_class(challenger.get("per_class") or {}, champion.get("per_class") or {}),
        "calibration": draw_calibration(challenger.get("calibration") or [], champion.get("calibration") or []),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return {name: save_figure(figure, folder / f"{name}.png") for name, figure in figures.items() if figure is not None}


def save_figure(figure: "Figure", path: Path) -> Path:
    """Write a picture as PNG.

    Raises:
        OSError: the folder cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path)
    return path


def draw_loss_curve(history: Sequence[Json], metric: str | None) -> "Figure | None":
    """Training and validation loss by step, and beside them the metric on the validation rows."""
    train = _metric_series(history, "loss")
    validation = _metric_series(history, "eval_loss")
    scores = _metric_series(history, f"eval_{metric}")
    if not train and not validation:
        return None
    figure = make_figure(9.6, 3.4)
    loss_axes, *score_axes = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    style_axes(loss_axes, "step", "loss")
    for points, colour, label in ((train, SOFT, "training"), (validation, OURS, "validation")):
        if points:
            loss_axes.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=_choose_marker(points, label),
                markersize=4,
                label=label,
            )
    loss_axes.set_ylim(bottom=0)
    _add_legend(loss_axes)
    for axes in score_axes:
        style_axes(axes, "step", f"{metric}, validation")
        axes.plot(*zip(*scores, strict=True), color=OURS, marker="o", markersize=4)
    return figure


def draw_confusion(matrix: Json) -> "Figure | None":
    """The confusion matrix, shaded by share of the row; of many classes those with the most errors."""
    if not matrix.get("names"):
        return None
    counts = np.asarray(matrix["counts"], dtype=float)
    indices = _find_most_wrong(counts)
    names = [_shorten_name(matrix["names"][index]) for index in indices]
    share = counts[indices][:, indices] / np.maximum(counts[indices].sum(1, keepdims=True), 1)
    size = max(4.2, 0.26 * len(names) + 1.9)
    figure = make_figure(size, size)
    axes = figure.subplots()
    # The square root of the share: an error of some percent is seen beside a diagonal of nearly one.
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    _name_ticks(axes, names)
    if len(indices) < len(counts):
        axes.set_title(f"the {len(indices)} classes with the most errors, of {len(counts)}", color=SOFT, fontsize=9)
    _write_counts(axes, counts[indices][:, indices], share)
    return figure


def draw_per_class(challenger: Json, champion: Json) -> "Figure | None":
    """F1 of each class as a bar, the champion's as a mark; of many classes the weakest."""
    scores = {name: entry["f1"] for name, entry in challenger.items() if is_number(entry.get("f1"))}
    names = sorted(scores, key=lambda name: (scores[name], name))[:MOST]
    if not names:
        return None
    figure = make_figure(7.2, 1.1 + 0.26 * len(names))
    axes = figure.subplots()
    style_axes(
        axes, "F1" if len(names) == len(scores) else f"F1, the {len(names)} weakest of {len(scores)} classes", ""
    )
    positions = np.arange(len(names))
    axes.barh(positions, [scores[name] for name in names], height=0.66, color=OURS, label="challenger")
    marks = [
        (champion[name]["f1"], position)
        for position, name in enumerate(names)
        if is_number(champion.get(name, {}).get("f1"))
    ]
    if marks:
        values, marked_positions = zip(*marks, strict=True)
        axes.scatter(
            values, marked_positions, marker="|", s=90, linewidths=2.2, color=THEIRS, label="champion", zorder=3
        )
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    labels = [f"{_shorten_name(name)} ({challenger[name].get('support') or 0:.0f})" for name in names]
    axes.set_yticks(positions, labels, fontsize=8, parse_math=False)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    return figure


def draw_calibration(challenger: Sequence[Json], champion: Sequence[Json]) -> "Figure | None":
    """Accuracy by confidence, and below it how many rows (or words) have that confidence."""
    if not _known_bins(challenger):
        return None
    figure = make_figure(5.6, 5.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    style_axes(above, "", "accuracy")
    style_axes(below, "confidence", "share of all")
    above.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
    for label, colour, bins in (
        ("challenger", OURS, _known_bins(challenger)),
        ("champion", THEIRS, _known_bins(champion)),
    ):
        if not bins:
            continue
        confidence, accuracy, rows = zip(*bins, strict=True)
        above.plot(confidence, accuracy, color=colour, marker="o", markersize=5, label=label)
        share = np.asarray(rows) / sum(rows)
        below.vlines(confidence, 0, share, color=colour, linewidth=5 if label == "challenger" else 2)
    above.set(xlim=(0, 1.02), ylim=(-0.03, 1.03))
    below.set_ylim(bottom=0)
    _add_legend(above)
    return figure


def make_figure(width: float, height: float) -> "Figure":
    """An opaque figure of inches: the picture is readable wherever it is shown, dark pages invert it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def style_axes(axes: "Axes", across: str, up: str) -> None:
    """Axes that step back behind the data."""
    axes.set_xlabel(across, color=SOFT, fontsize=9, parse_math=False)
    axes.set_ylabel(up, color=SOFT, fontsize=9, parse_math=False)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)


def _add_legend(axes: "Axes") -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _name_ticks(axes: "Axes", names: Sequence[str]) -> None:
    positions = np.arange(len(names))
    axes.set_xticks(positions, names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(positions, names, fontsize=8, parse_math=False)
    axes.set_xlabel("predicted", color=SOFT, fontsize=9)
    axes.set_ylabel("true", color=SOFT, fontsize=9)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_color(LINE)


def _write_counts(axes: "Axes", counts: Any, share: Any) -> None:
    """Each count in its cell, light on a dark one."""
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if math.sqrt(share[row, column]) > 0.6 else INK
        times = counts[row, column]
        count_text = f"{times:.0f}" if times < 10_000 else f"{times / 1000:.0f}k"
        axes.text(column, row, count_text, color=colour, fontsize=6.5, ha="center", va="center")


def _find_most_wrong(counts: Any) -> list[int]:
    """Positions of the classes that take part in the most errors, in their own order."""
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    return sorted(np.argsort(-wrong, kind="stable")[:MOST].tolist())


def _metric_series(history: Sequence[Json], name: str) -> list[tuple[float, float]]:
    return [(entry["step"], entry[name]) for entry in history if is_number(entry.get(name))]


def _known_bins(curve: Iterable[Json]) -> list[tuple[float, float, float]]:
    bins = [(entry["confidence"], entry["accuracy"], entry["rows"]) for entry in curve]
    return [entry for entry in bins if all(map(is_number, entry)) and entry[2] > 0]


def _choose_marker(points: Sequence[Any], label: str) -> str:
    return "o" if label == "validation" or len(points) == 1 else ""


def _shorten_name(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
