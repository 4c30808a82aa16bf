"""The report of a drift check: what each test found, and how the rows differ."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.report.charts import BLUE, GREY, INK, make_figure, save_figure, style_axes
from evertune.report.formatting import format_count, format_pvalue
from evertune.report.sections.evidence import build_drift_tests
from evertune.report.templating import write_page
from evertune.report.view import Head, Picture, Table, Tile, embed_picture

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evertune.statistics.two_sample import Sample

Json = dict[str, Any]
MOST = 15  # labels in the picture, those whose shares changed most
BINS = 24  # of a histogram, at most


@dataclass(frozen=True, slots=True)
class DriftPage:
    """What the page shows.

    Args:
        level: probability of a false alarm.
    """

    tests: Table
    level: str
    distributions: Picture | None


def write_drift_page(folder: Path, result: Json, reference: "Sample | None", current: "Sample | None") -> Path:
    """Write `monitor.html` and its picture.

    Args:
        result: a plain `Monitoring`.
        reference, current: the rows compared; None where they were too few.
    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    if reference is not None and current is not None:
        pictures["sides"] = save_figure(draw_sides(reference, current), folder / "sides.png")
    page = DriftPage(build_drift_tests(result), f"{result['level']:.2g}", embed_picture(pictures, "sides"))
    return write_page(folder / "monitor.html", "drift.html.j2", _build_head(result), page)


def _build_head(result: Json) -> Head:
    colour, headline = ("rejected", "Drift") if result["drifted"] else ("promoted", "No drift")
    if result["p"] is None:
        colour, headline = "held", "Too few rows"
    return Head(
        title=f"{result['model']}: {headline.lower()}",
        colour=colour,
        subject=f"{result['model']} version {result['version']} on {result['source']}",
        headline=headline,
        sentence=result["reason"],
        tiles=[
            Tile("p", format_pvalue(result["p"]), f"drift if ≤ {result['level']:.2g}"),
            *(Tile(f"{side} rows", format_count(rows), "compared") for side, rows in result["rows"].items()),
            Tile("rows left out", format_count(result["left_out"]), "known to the champion, or near its training rows"),
        ],
    )


def draw_sides(reference: "Sample", current: "Sample") -> "Figure":
    """Labels, lengths and confidence of both sides."""
    figure = make_figure(9.6, 5.6)
    label_axes, length_axes, confidence_axes = figure.subplot_mosaic(
        [["labels", "length"], ["labels", "confidence"]]
    ).values()
    _draw_labels(label_axes, np.asarray(reference.predicted), np.asarray(current.predicted))
    _draw_spread(length_axes, np.asarray(reference.lengths), np.asarray(current.lengths), "tokens")
    _draw_spread(confidence_axes, np.asarray(reference.scores), np.asarray(current.scores), "confidence")
    return figure


def _draw_labels(axes: "Axes", before: "npt.NDArray[Any]", now: "npt.NDArray[Any]") -> None:
    style_axes(axes, "share of the rows", "")
    shares = [{name: times / len(side) for name, times in Counter(side.tolist()).items()} for side in (before, now)]
    change = {name: abs(shares[1].get(name, 0) - shares[0].get(name, 0)) for name in {*shares[0], *shares[1]}}
    names = sorted(change, key=lambda name: (-change[name], name))[:MOST]
    positions = np.arange(len(names))
    for shift, side, colour, word in ((-0.2, 0, GREY, "reference"), (0.2, 1, BLUE, "current")):
        axes.barh(positions + shift, [shares[side].get(name, 0) for name in names], 0.38, color=colour, label=word)
    axes.set_yticks(positions, [str(name)[:26] for name in names], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9, labelcolor=INK)


def _draw_spread(axes: "Axes", before: "npt.NDArray[Any]", now: "npt.NDArray[Any]", name: str) -> None:
    style_axes(axes, name, "share of the rows")
    bounds = _histogram_bounds(np.concatenate([before, now]))
    for values, colour in ((before, GREY), (now, BLUE)):
        shares = np.full(len(values), 1 / len(values))
        axes.hist(values, bounds.tolist(), weights=shares, histtype="step", color=colour, linewidth=1.6)


def _histogram_bounds(values: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
    """Return the edges of bins; counts get bins of equally many whole numbers, as others would leave gaps."""
    if not np.issubdtype(values.dtype, np.integer):
        return np.histogram_bin_edges(values, bins=BINS)
    low, high = int(values.min()), int(values.max())
    width = -(-(high - low + 1) // BINS)
    return np.arange(low, high + width + 1, width) - 0.5
