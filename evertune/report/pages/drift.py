"""The page of a look for drift: what was found, test by test, and how the two sides differ."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.report.charts import INK, OURS, SOFT, figure_of, plain_axes, save
from evertune.report.html import Html, count, join, note, picture, small, text, tiles
from evertune.report.pages.run import write
from evertune.report.sections.drift_tests import tests

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evertune.statistics.two_sample import Rows

Json = dict[str, Any]
MOST = 15  # labels in the picture, those whose shares changed most


def page(folder: Path, found: Json, reference: "Rows | None", current: "Rows | None") -> Path:
    """Write `monitor.html` and its picture.

    Args:
        found: `plain(Monitoring)`.
    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = None if reference is None or current is None else sides(reference, current)
    pictures = {} if drawn is None else {"sides": save(drawn, folder / "sides.png")}
    sections = {
        "Tests": join(tests(found), note(
            "p: corrected for the number of tests by the permutations themselves (Westfall & Young 1993), so that the "
            f"chance of any false alarm in this check is {found['level']:.2g}."
        )) if found["findings"] else Html(""),
        "Both sides": picture(pictures, "sides", "What the champion says, lengths in tokens, and how sure it is."),
    }  # fmt: skip
    kind, word = ("rejected", "Drift") if found["drifted"] else ("promoted", "No drift")
    kind, word = ("held", "Too few rows") if found["p"] is None else (kind, word)
    hero = Html(
        f'<header class="hero {kind}"><p class="where">{text(found["model"])} version {found["version"]} on '
        f"{text(found['source'])}</p><h1><b>{word}</b>: {text(found['reason'])}</h1></header>{_tiles(found)}"
    )
    return write(folder / "monitor.html", f"{found['model']}: {word.lower()}", hero, sections, "")


def sides(reference: "Rows", current: "Rows") -> "Figure":
    """Labels, lengths and confidence of both sides."""
    figure = figure_of(9.6, 5.6)
    left, above, below = figure.subplot_mosaic([["labels", "length"], ["labels", "confidence"]]).values()
    _labels(left, np.asarray(reference.predicted), np.asarray(current.predicted))
    _spread(above, reference.lengths, current.lengths, "tokens")
    _spread(below, reference.scores, current.scores, "confidence")
    return figure


def _labels(axes: Any, before: Any, now: Any) -> None:
    plain_axes(axes, "share of the rows", "")
    shares = [{name: times / len(side) for name, times in Counter(side.tolist()).items()} for side in (before, now)]
    change = {name: abs(shares[1].get(name, 0) - shares[0].get(name, 0)) for name in {*shares[0], *shares[1]}}
    names = sorted(change, key=lambda name: (-change[name], name))[:MOST]
    places = np.arange(len(names))
    for shift, side, colour, word in ((-0.2, 0, SOFT, "reference"), (0.2, 1, OURS, "now")):
        axes.barh(places + shift, [shares[side].get(name, 0) for name in names], 0.38, color=colour, label=word)
    axes.set_yticks(places, [str(name)[:26] for name in names], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9, labelcolor=INK)


def _spread(axes: Any, before: Any, now: Any, name: str) -> None:
    plain_axes(axes, name, "share of the rows")
    bounds = np.histogram_bin_edges(np.concatenate([before, now]), bins=24)
    for values, colour in ((before, SOFT), (now, OURS)):
        axes.hist(values, bounds, weights=np.full(len(values), 1 / len(values)), histtype="step", color=colour, lw=1.6)


def _tiles(found: Json) -> Html:
    shown = [
        ("p", small(found["p"]), f"at most {found['level']:.2g} tells of drift"),
        *((f"rows, {side}", count(rows), "compared") for side, rows in found["rows"].items()),
        ("rows, left out", count(found["left_out"]), "known to the champion, or too near what it learned"),
    ]
    return tiles(shown)
