"""The page of a search: the best values, how it went, and which fields mattered."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.config.search import short
from evertune.report.charts import INK, OURS, SOFT, THEIRS, figure_of, plain_axes, save
from evertune.report.html import Html, bar, count, join, known, label, note, number, picture, shown, table, text, tiles
from evertune.report.pages.run import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]
BESIDE = 3  # pictures of fields in one row


def page(folder: Path, result: Json, model: str) -> Path:
    """Write `search.html` and its pictures.

    Args:
        result: `plain(search.Result)`.
    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"history": history(result), "fields": fields(result)}
    pictures = {name: save(figure, folder / f"{name}.png") for name, figure in drawn.items()}
    sections = {
        "Over the trials": picture(pictures, "history", f"{result['metric']} by trial; the line is the best so far."),
        "Fields": join(searched(result), picture(pictures, "fields", "Every trial by the value of a field."), note(
            "Importance: a field's share of the changes of the metric (PED-ANOVA), told where two fields and two "
            "different trials are there."
        )),
        "Trials": trials(result),
    }  # fmt: skip
    hero = Html(
        f'<header class="hero promoted"><p class="where">{text(model)}, a search</p>'
        f"<h1><b>Best</b>: {text(result['sentence'])}</h1></header>{_tiles(result)}"
    )
    return write(folder / "search.html", f"{model}: search", hero, sections, f" for run {text(result['run_id'])}")


def history(result: Json) -> "Figure":
    """The metric by trial and the best so far; beside it the importance of each field, where it is known."""
    from matplotlib.ticker import MaxNLocator

    made = figure_of(9.6, 3.6)
    left, *right = made.subplots(1, 2, width_ratios=(3, 1)) if result["importances"] else [made.subplots()]
    plain_axes(left, "trial", f"{result['metric']}, validation")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    _points(left, result, [(one["number"], one) for one in result["trials"]])
    ended = [one for one in result["trials"] if one["state"] == "complete"]
    best = min if result["falls"] else max
    line = [best(other["value"] for other in ended[: place + 1]) for place in range(len(ended))]
    left.step([one["number"] for one in ended], line, where="post", color=OURS, linewidth=1.4)
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    for axes in right:
        plain_axes(axes, "importance", "")
        names = short(result["importances"])
        axes.barh(range(len(names)), list(result["importances"].values()), height=0.5, color=OURS)
        axes.set_yticks(range(len(names)), [*names.values()], fontsize=8, parse_math=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
    return made


def fields(result: Json) -> "Figure":
    """The metric by the value of each field."""
    names = list(result["fields"])
    rows = -(-len(names) // BESIDE)
    made = figure_of(9.6, 2.9 * rows)
    for place, axes in enumerate(made.subplots(rows, BESIDE, squeeze=False).ravel()):
        if place >= len(names):
            axes.set_visible(False)
            continue
        name = names[place]
        plain_axes(axes, name, "" if place % BESIDE else result["metric"])
        _by_value(axes, result, name)
    return made


def _by_value(axes: "Axes", result: Json, name: str) -> None:
    tried = [one for one in result["trials"] if name in one["values"]]
    values = [one["values"][name] for one in tried]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        if result["fields"][name].endswith(", log"):
            axes.set_xscale("log")
            ticks = np.geomspace(min(values), max(values), 3).tolist()
            axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            axes.set_xticks([], minor=True)
        _points(axes, result, list(zip(values, tried, strict=True)))
        return
    texts = [str(value) for value in values]
    kinds = sorted(set(texts))
    _points(axes, result, [(kinds.index(one), trial) for one, trial in zip(texts, tried, strict=True)])
    axes.set_xticks(range(len(kinds)), kinds, fontsize=8, parse_math=False)


def _points(axes: "Axes", result: Json, placed: Sequence[tuple[float, Json]]) -> None:
    for states, colour, size, name in (("complete", INK, 26, "complete"), ("pruned", SOFT, 14, "pruned")):
        some = [(at, one["value"]) for at, one in placed if one["state"] == states and known(one["value"])]
        if some:
            across, up = zip(*some, strict=True)
            axes.scatter(across, up, color=colour, s=size, label=name, zorder=3)
    at, best = next((at, one["value"]) for at, one in placed if one["number"] == result["best"])
    axes.scatter([at], [best], color=THEIRS, s=60, label="best", zorder=4)


def searched(result: Json) -> Html:
    """One line a field: what was searched, what was found, what it mattered."""
    rows = [
        [
            label(name), text(words), shown(_found(result["values"][name])),
            bar(result["importances"].get(name), number(result["importances"].get(name))),
        ]
        for name, words in result["fields"].items()
    ]  # fmt: skip
    return table(("Field", "Searched", "Best", "Importance"), rows, named=2)


def trials(result: Json) -> Html:
    """One line a trial, the best first."""
    rows = [
        [
            Html(f'<span class="{"chief" if one["number"] == result["best"] else ""}">{one["number"]}</span>'),
            text(one["state"]), number(one["value"]),
            *(shown(_found(one["values"].get(name))) for name in result["fields"]),
            count(one["seconds"]), text(one["why"] or ""),
        ]
        for one in ranked(result)
    ]  # fmt: skip
    return table(("Trial", "Ended", result["metric"], *result["fields"], "Seconds", "Why"), rows, named=2)


def ranked(result: Json) -> list[Json]:
    """The trials, the best first; those that came to nothing last."""
    sign = 1 if result["falls"] else -1

    def place(one: Json) -> tuple[Any, ...]:
        value = one["value"]
        return one["state"] != "complete", value is None, sign * (value or 0.0), one["number"]

    return sorted(result["trials"], key=place)


def _found(value: Any) -> Any:
    """A small number is told with its digits, not as 0."""
    return f"{value:.4g}" if isinstance(value, float) else value if not isinstance(value, (list, dict)) else str(value)


def _tiles(result: Json) -> Html:
    states = [one["state"] for one in result["trials"]]
    return tiles([
        (f"{result['metric']}, validation", number(result["value"]), text(f"trial {result['best']}")),
        ("trials", count(len(states)), text(f"{states.count('pruned')} pruned")),
        ("training", count(sum(one["seconds"] for one in result["trials"])), text("seconds, all trials")),
        ("rows", count(sum(result["rows"].values())), text("train and validation; no test row was read")),
    ])  # fmt: skip
