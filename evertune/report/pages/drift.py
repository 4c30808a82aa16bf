"""The page of a look for drift: what was found, test by test, and how the two sides differ."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.report.charts import INK, OURS, SOFT, make_figure, save_figure, style_axes
from evertune.report.html import (
    Html,
    build_note,
    build_tiles,
    embed_picture,
    escape,
    format_count,
    format_pvalue,
    join_parts,
)
from evertune.report.pages.run import write_page
from evertune.report.sections.drift_tests import render_tests

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evertune.statistics.two_sample import Sample

Json = dict[str, Any]
MOST = 15  # labels in the picture, those whose shares changed most


def write_drift_page(folder: Path, result: Json, reference: "Sample | None", current: "Sample | None") -> Path:
    """Write `monitor.html` and its picture.

    Args:
        found: `plain(Monitoring)`.
    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure = None if reference is None or current is None else draw_sides(reference, current)
    pictures = {} if figure is None else {"sides": save_figure(figure, folder / "sides.png")}
    sections = {
        "Tests": join_parts(
            render_tests(result),
            build_note(
                "p: corrected for the number of tests by the permutations themselves (Westfall & Young 1993), so "
                "that the "
                f"chance of any false alarm in this check is {result['level']:.2g}."
            ),
        )
        if result["findings"]
        else Html(""),
        "Both sides": embed_picture(
            pictures, "sides", "What the champion says, lengths in tokens, and how sure it is."
        ),
    }
    kind, word = ("rejected", "Drift") if result["drifted"] else ("promoted", "No drift")
    kind, word = ("held", "Too few rows") if result["p"] is None else (kind, word)
    hero = Html(
        f'<header class="hero {kind}"><p class="where">{escape(result["model"])} version {result["version"]} on '
        f"{escape(result['source'])}</p><h1><b>{word}</b>: "
        f"{escape(result['reason'])}</h1></header>{_render_tiles(result)}"
    )
    return write_page(folder / "monitor.html", f"{result['model']}: {word.lower()}", hero, sections, "")


def draw_sides(reference: "Sample", current: "Sample") -> "Figure":
    """Labels, lengths and confidence of both sides."""
    figure = make_figure(9.6, 5.6)
    label_axes, length_axes, confidence_axes = figure.subplot_mosaic(
        [["labels", "length"], ["labels", "confidence"]]
    ).values()
    _draw_labels(label_axes, np.asarray(reference.predicted), np.asarray(current.predicted))
    _draw_spread(length_axes, reference.lengths, current.lengths, "tokens")
    _draw_spread(confidence_axes, reference.scores, current.scores, "confidence")
    return figure


def _draw_labels(axes: Any, before: Any, now: Any) -> None:
    style_axes(axes, "share of the rows", "")
    shares = [{name: times / len(side) for name, times in Counter(side.tolist()).items()} for side in (before, now)]
    change = {name: abs(shares[1].get(name, 0) - shares[0].get(name, 0)) for name in {*shares[0], *shares[1]}}
    names = sorted(change, key=lambda name: (-change[name], name))[:MOST]
    positions = np.arange(len(names))
    for shift, side, colour, word in ((-0.2, 0, SOFT, "reference"), (0.2, 1, OURS, "now")):
        axes.barh(positions + shift, [shares[side].get(name, 0) for name in names], 0.38, color=colour, label=word)
    axes.set_yticks(positions, [str(name)[:26] for name in names], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9, labelcolor=INK)


def _draw_spread(axes: Any, before: Any, now: Any, name: str) -> None:
    style_axes(axes, name, "share of the rows")
    bounds = np.histogram_bin_edges(np.concatenate([before, now]), bins=24)
    for values, colour in ((before, SOFT), (now, OURS)):
        axes.hist(values, bounds, weights=np.full(len(values), 1 / len(values)), histtype="step", color=colour, lw=1.6)


def _render_tiles(result: Json) -> Html:
    items = [
        ("p", format_pvalue(result["p"]), f"at most {result['level']:.2g} tells of drift"),
        *((f"rows, {side}", format_count(rows), "compared") for side, rows in result["rows"].items()),
        ("rows, left out", format_count(result["left_out"]), "known to the champion, or too near what it learned"),
    ]
    return build_tiles(items)
