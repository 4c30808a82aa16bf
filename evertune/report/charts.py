"""The run's pictures, drawn on figures of their own: no pyplot, no global state."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.report.html import DPI, known

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]
MOST = 40  # classes in one picture; a name beside each stays readable
LONGEST = 26  # characters of a class name
INK, SOFT, LINE = "#33373c", "#6b7178", "#d9dce0"
OURS, THEIRS = "#2563eb", "#d97706"  # apart also for the colour-blind


def pictures(folder: Path, details: Json, history: list[Json]) -> dict[str, Path]:
    """Draw `loss_curve`, `confusion`, `per_class` and `calibration` as PNGs, those that the data allow.

    Args:
        details: what `evaluate` wrote; history: metrics by step, oldest first.
    Raises:
        OSError: the folder cannot be written.
    """
    ours, theirs = details.get("challenger") or {}, details.get("champion") or {}
    drawn = {
        "loss_curve": loss_curve(history, details.get("metric")),
        "confusion": confusion(ours.get("confusion") or {}),
        "per_class": per_class(ours.get("per_class") or {}, theirs.get("per_class") or {}),
        "calibration": calibration(ours.get("calibration") or [], theirs.get("calibration") or []),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return {name: save(figure, folder / f"{name}.png") for name, figure in drawn.items() if figure is not None}


def save(figure: "Figure", path: Path) -> Path:
    """Write a picture as PNG.

    Raises:
        OSError: the folder cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path)
    return path


def loss_curve(history: Sequence[Json], metric: str | None) -> "Figure | None":
    """Training and validation loss by step, and beside them the metric on the validation rows."""
    train, judged = _series(history, "loss"), _series(history, "eval_loss")
    scores = _series(history, f"eval_{metric}")
    if not train and not judged:
        return None
    figure = figure_of(9.6, 3.4)
    left, *right = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    plain_axes(left, "step", "loss")
    for points, colour, label in ((train, SOFT, "training"), (judged, OURS, "validation")):
        if points:
            left.plot(
                *zip(*points, strict=True), color=colour, marker=_marker(points, label), markersize=4, label=label
            )
    left.set_ylim(bottom=0)
    _legend(left)
    for axes in right:
        plain_axes(axes, "step", f"{metric}, validation")
        axes.plot(*zip(*scores, strict=True), color=OURS, marker="o", markersize=4)
    return figure


def confusion(matrix: Json) -> "Figure | None":
    """The confusion matrix, shaded by share of the row; of many classes those with the most errors."""
    if not matrix.get("names"):
        return None
    counts = np.asarray(matrix["counts"], dtype=float)
    kept = _most_wrong(counts)
    names = [_short(matrix["names"][place]) for place in kept]
    share = counts[kept][:, kept] / np.maximum(counts[kept].sum(1, keepdims=True), 1)
    size = max(4.2, 0.26 * len(names) + 1.9)
    figure = figure_of(size, size)
    axes = figure.subplots()
    # The square root of the share: an error of some percent is seen beside a diagonal of nearly one.
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    _named(axes, names)
    if len(kept) < len(counts):
        axes.set_title(f"the {len(kept)} classes with the most errors, of {len(counts)}", color=SOFT, fontsize=9)
    _write_counts(axes, counts[kept][:, kept], share)
    return figure


def per_class(ours: Json, theirs: Json) -> "Figure | None":
    """F1 of each class as a bar, the champion's as a mark; of many classes the weakest."""
    scores = {name: one["f1"] for name, one in ours.items() if known(one.get("f1"))}
    names = sorted(scores, key=lambda name: (scores[name], name))[:MOST]
    if not names:
        return None
    figure = figure_of(7.2, 1.1 + 0.26 * len(names))
    axes = figure.subplots()
    plain_axes(
        axes, "F1" if len(names) == len(scores) else f"F1, the {len(names)} weakest of {len(scores)} classes", ""
    )
    places = np.arange(len(names))
    axes.barh(places, [scores[name] for name in names], height=0.66, color=OURS, label="challenger")
    marks = [(theirs[name]["f1"], place) for place, name in enumerate(names) if known(theirs.get(name, {}).get("f1"))]
    if marks:
        values, at = zip(*marks, strict=True)
        axes.scatter(values, at, marker="|", s=90, linewidths=2.2, color=THEIRS, label="champion", zorder=3)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    labels = [f"{_short(name)} ({ours[name].get('support') or 0:.0f})" for name in names]
    axes.set_yticks(places, labels, fontsize=8, parse_math=False)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    return figure


def calibration(ours: Sequence[Json], theirs: Sequence[Json]) -> "Figure | None":
    """Accuracy by confidence, and below it how many rows (or words) have that confidence."""
    if not _bins(ours):
        return None
    figure = figure_of(5.6, 5.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    plain_axes(above, "", "share that is right")
    plain_axes(below, "confidence", "share of all")
    above.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
    for label, colour, bins in (("challenger", OURS, _bins(ours)), ("champion", THEIRS, _bins(theirs))):
        if not bins:
            continue
        confidence, accuracy, rows = zip(*bins, strict=True)
        above.plot(confidence, accuracy, color=colour, marker="o", markersize=5, label=label)
        share = np.asarray(rows) / sum(rows)
        below.vlines(confidence, 0, share, color=colour, linewidth=5 if label == "challenger" else 2)
    above.set(xlim=(0, 1.02), ylim=(-0.03, 1.03))
    below.set_ylim(bottom=0)
    _legend(above)
    return figure


def figure_of(width: float, height: float) -> "Figure":
    """An opaque figure of inches: the picture is readable wherever it is shown, dark pages invert it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def plain_axes(axes: "Axes", across: str, up: str) -> None:
    """Axes that step back behind the data."""
    axes.set_xlabel(across, color=SOFT, fontsize=9, parse_math=False)
    axes.set_ylabel(up, color=SOFT, fontsize=9, parse_math=False)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)


def _legend(axes: "Axes") -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _named(axes: "Axes", names: Sequence[str]) -> None:
    places = np.arange(len(names))
    axes.set_xticks(places, names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(places, names, fontsize=8, parse_math=False)
    axes.set_xlabel("challenger said", color=SOFT, fontsize=9)
    axes.set_ylabel("true", color=SOFT, fontsize=9)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_color(LINE)


def _write_counts(axes: "Axes", counts: Any, share: Any) -> None:
    """Each count in its cell, light on a dark one."""
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if math.sqrt(share[row, column]) > 0.6 else INK
        times = counts[row, column]
        figure = f"{times:.0f}" if times < 10_000 else f"{times / 1000:.0f}k"
        axes.text(column, row, figure, color=colour, fontsize=6.5, ha="center", va="center")


def _most_wrong(counts: Any) -> list[int]:
    """Positions of the classes that take part in the most errors, in their own order."""
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    return sorted(np.argsort(-wrong, kind="stable")[:MOST].tolist())


def _series(history: Sequence[Json], name: str) -> list[tuple[float, float]]:
    return [(one["step"], one[name]) for one in history if known(one.get(name))]


def _bins(curve: Iterable[Json]) -> list[tuple[float, float, float]]:
    found = [(one["confidence"], one["accuracy"], one["rows"]) for one in curve]
    return [one for one in found if all(map(known, one)) and one[2] > 0]


def _marker(points: Sequence[Any], label: str) -> str:
    return "o" if label == "validation" or len(points) == 1 else ""


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
