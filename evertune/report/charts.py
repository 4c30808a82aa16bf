"""The charts of the pages, as PNGs. Each is drawn on a figure of its own: no pyplot, no global state."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evertune.report.formatting import is_number
from evertune.report.view import DPI

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]
Floats = npt.NDArray[np.float64]
MOST_CLASSES = 40  # in one picture: their names stay readable
LONGEST_NAME = 26  # characters of a class name
INK = "#33373c"
GREY = "#6b7178"
GRID = "#d9dce0"
BLUE = "#2563eb"  # blue and orange differ for the colour-blind too
ORANGE = "#d97706"


def draw_pictures(folder: Path, details: Json, history: list[Json]) -> dict[str, Path]:
    """Draw `loss_curve`, `confusion`, `per_class` and `calibration`, and return the paths of those that have data.

    Args:
        folder: of the PNGs, made where it is missing.
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
    """Write a figure as PNG and return the path.

    Raises:
        OSError: the folder cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path)
    return path


def draw_loss_curve(history: Sequence[Json], metric: str | None) -> "Figure | None":
    """Draw training and validation loss by step, with the metric on the validation rows; None without a loss."""
    train = _metric_series(history, "loss")
    validation = _metric_series(history, "eval_loss")
    scores = _metric_series(history, f"eval_{metric}")
    if not train and not validation:
        return None
    figure = make_figure(9.6, 3.4)
    loss_axes, *score_axes = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    style_axes(loss_axes, "step", "loss")
    for points, colour, label in ((train, GREY, "training"), (validation, BLUE, "validation")):
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
        axes.plot(*zip(*scores, strict=True), color=BLUE, marker="o", markersize=4)
    return figure


def draw_confusion(matrix: Json) -> "Figure | None":
    """Draw the confusion matrix, shaded by share of the row; of many classes those with the most errors."""
    if not matrix.get("names"):
        return None
    counts = np.asarray(matrix["counts"], dtype=float)
    indices = _find_most_wrong(counts)
    names = [_shorten_name(matrix["names"][index]) for index in indices]
    share = counts[indices][:, indices] / np.maximum(counts[indices].sum(1, keepdims=True), 1)
    size = max(4.2, 0.26 * len(names) + 1.9)
    figure = make_figure(size, size)
    axes = figure.subplots()
    # The square root of the share makes errors of a few percent visible next to a diagonal of nearly one.
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    _name_ticks(axes, names)
    if len(indices) < len(counts):
        axes.set_title(f"the {len(indices)} classes with the most errors, of {len(counts)}", color=GREY, fontsize=9)
    _write_counts(axes, counts[indices][:, indices], share)
    return figure


def draw_per_class(challenger: Json, champion: Json) -> "Figure | None":
    """Draw the F1 of each class as a bar, the champion's as a mark; of many classes the weakest."""
    scores = {name: entry["f1"] for name, entry in challenger.items() if is_number(entry.get("f1"))}
    names = sorted(scores, key=lambda name: (scores[name], name))[:MOST_CLASSES]
    if not names:
        return None
    figure = make_figure(7.2, 1.1 + 0.26 * len(names))
    axes = figure.subplots()
    all_shown = len(names) == len(scores)
    style_axes(axes, "F1" if all_shown else f"F1, the {len(names)} weakest of {len(scores)} classes", "")
    positions = np.arange(len(names))
    axes.barh(positions, [scores[name] for name in names], height=0.66, color=BLUE, label="challenger")
    marks = [
        (champion[name]["f1"], position)
        for position, name in enumerate(names)
        if is_number(champion.get(name, {}).get("f1"))
    ]
    if marks:
        values, marked_positions = zip(*marks, strict=True)
        axes.scatter(
            values, marked_positions, marker="|", s=90, linewidths=2.2, color=ORANGE, label="champion", zorder=3
        )
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    labels = [f"{_shorten_name(name)} ({challenger[name].get('support') or 0:.0f})" for name in names]
    axes.set_yticks(positions, labels, fontsize=8, parse_math=False)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    return figure


def draw_calibration(challenger: Sequence[Json], champion: Sequence[Json]) -> "Figure | None":
    """Draw accuracy by confidence, and below it how many rows (or words) have that confidence."""
    if not _known_bins(challenger):
        return None
    figure = make_figure(5.6, 5.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    style_axes(above, "", "accuracy")
    style_axes(below, "confidence", "share of all")
    above.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for label, colour, bins in (
        ("challenger", BLUE, _known_bins(challenger)),
        ("champion", ORANGE, _known_bins(champion)),
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
    """Return a white figure of this size in inches; a dark page inverts it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def style_axes(axes: "Axes", across: str, up: str) -> None:
    """Draw the axes in quiet colours, with labels for both."""
    axes.set_xlabel(across, color=GREY, fontsize=9, parse_math=False)
    axes.set_ylabel(up, color=GREY, fontsize=9, parse_math=False)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def _add_legend(axes: "Axes") -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _name_ticks(axes: "Axes", names: Sequence[str]) -> None:
    positions = np.arange(len(names))
    axes.set_xticks(positions, names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(positions, names, fontsize=8, parse_math=False)
    axes.set_xlabel("predicted", color=GREY, fontsize=9)
    axes.set_ylabel("true", color=GREY, fontsize=9)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_color(GRID)


def _write_counts(axes: "Axes", counts: Floats, share: Floats) -> None:
    """Write each count into its cell, white where the cell is dark."""
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if math.sqrt(share[row, column]) > 0.6 else INK
        times = counts[row, column]
        count_text = f"{times:.0f}" if times < 10_000 else f"{times / 1000:.0f}k"
        axes.text(column, row, count_text, color=colour, fontsize=6.5, ha="center", va="center")


def _find_most_wrong(counts: Floats) -> list[int]:
    """Return the indices of the classes with the most errors, in their own order."""
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    return sorted(np.argsort(-wrong, kind="stable")[:MOST_CLASSES].tolist())


def _metric_series(history: Sequence[Json], name: str) -> list[tuple[float, float]]:
    return [(entry["step"], entry[name]) for entry in history if is_number(entry.get(name))]


def _known_bins(curve: Iterable[Json]) -> list[tuple[float, float, float]]:
    bins = [(entry["confidence"], entry["accuracy"], entry["rows"]) for entry in curve]
    return [entry for entry in bins if all(map(is_number, entry)) and entry[2] > 0]


def _choose_marker(points: Sequence[tuple[float, float]], label: str) -> str:
    return "o" if label == "validation" or len(points) == 1 else ""


def _shorten_name(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
