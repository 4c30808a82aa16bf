"""The report of a hyperparameter search: the best values, the trials, and which fields mattered."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.config.search import shorten_paths
from evertune.report.charts import BLUE, GREY, INK, ORANGE, make_figure, save_figure, style_axes
from evertune.report.formatting import format_count, format_number, format_value, is_number
from evertune.report.templating import write_page
from evertune.report.view import (
    Cell,
    Chief,
    Head,
    Label,
    Picture,
    Table,
    Tile,
    embed_picture,
    make_bar,
    number,
    prose,
    text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]
PER_ROW = 3  # pictures of fields in one row


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What the page shows."""

    metric: str
    progress: Picture | None
    fields: Table
    by_field: Picture | None
    trials: Table


def write_search_page(folder: Path, result: Json, model: str) -> Path:
    """Write `search.html` and its pictures.

    Args:
        result: a plain `search.Result`; model: name of the recipe.
    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"history": draw_history(result), "fields": draw_fields(result)}
    pictures = {name: save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()}
    page = SearchPage(
        metric=result["metric"],
        progress=embed_picture(pictures, "history"),
        fields=_field_table(result),
        by_field=embed_picture(pictures, "fields"),
        trials=_trial_table(result),
    )
    return write_page(folder / "search.html", "search.html.j2", _build_head(result, model), page)


def _build_head(result: Json, model: str) -> Head:
    states = [trial["state"] for trial in result["trials"]]
    seconds = sum(trial["seconds"] for trial in result["trials"])
    rows = sum(result["rows"].values())
    return Head(
        title=f"{model}: search",
        colour="promoted",
        subject=f"{model}, hyperparameter search",
        headline="Best",
        sentence=result["sentence"],
        tiles=[
            Tile(f"{result['metric']}, validation", format_number(result["value"]), f"trial {result['best']}"),
            Tile("trials", format_count(len(states)), f"{states.count('pruned')} pruned"),
            Tile("training seconds", format_count(seconds), "all trials"),
            Tile("rows", format_count(rows), "training and validation, no test rows"),
        ],
        run_id=result["run_id"],
    )


def draw_history(result: Json) -> "Figure":
    """Draw the metric by trial and the best so far, with the importance of each field where it is known."""
    from matplotlib.ticker import MaxNLocator

    figure = make_figure(9.6, 3.6)
    metric_axes, *importance_axes = (
        figure.subplots(1, 2, width_ratios=(3, 1)) if result["importances"] else [figure.subplots()]
    )
    style_axes(metric_axes, "trial", f"{result['metric']}, validation")
    metric_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _draw_points(metric_axes, result, [(trial["number"], trial) for trial in result["trials"]])
    ended = [trial for trial in result["trials"] if trial["state"] == "complete"]
    best = min if result["falls"] else max
    line = [best(trial["value"] for trial in ended[: index + 1]) for index in range(len(ended))]
    metric_axes.step([trial["number"] for trial in ended], line, where="post", color=BLUE, linewidth=1.4)
    metric_axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9, labelcolor=INK
    )
    for axes in importance_axes:
        style_axes(axes, "importance", "")
        names = shorten_paths(result["importances"])
        axes.barh(range(len(names)), list(result["importances"].values()), height=0.5, color=BLUE)
        axes.set_yticks(range(len(names)), [*names.values()], fontsize=8, parse_math=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
    return figure


def draw_fields(result: Json) -> "Figure":
    """Draw the metric by the value of each field."""
    names = list(result["fields"])
    rows = -(-len(names) // PER_ROW)
    figure = make_figure(9.6, 2.9 * rows)
    for index, axes in enumerate(figure.subplots(rows, PER_ROW, squeeze=False).ravel()):
        if index >= len(names):
            axes.set_visible(False)
            continue
        name = names[index]
        style_axes(axes, name, "" if index % PER_ROW else result["metric"])
        _draw_by_value(axes, result, name)
    return figure


def _draw_by_value(axes: "Axes", result: Json, name: str) -> None:
    trials = [trial for trial in result["trials"] if name in trial["values"]]
    values = [trial["values"][name] for trial in trials]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        if result["fields"][name].endswith(", log"):
            axes.set_xscale("log")
            ticks = np.geomspace(min(values), max(values), 3).tolist()
            axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            axes.set_xticks([], minor=True)
        _draw_points(axes, result, list(zip(values, trials, strict=True)))
        return
    texts = [str(value) for value in values]
    kinds = sorted(set(texts))
    _draw_points(axes, result, [(kinds.index(text), trial) for text, trial in zip(texts, trials, strict=True)])
    axes.set_xticks(range(len(kinds)), kinds, fontsize=8, parse_math=False)


def _draw_points(axes: "Axes", result: Json, placed: Sequence[tuple[float, Json]]) -> None:
    for states, colour, size, name in (("complete", INK, 26, "complete"), ("pruned", GREY, 14, "pruned")):
        points = [(x, trial["value"]) for x, trial in placed if trial["state"] == states and is_number(trial["value"])]
        if points:
            across, up = zip(*points, strict=True)
            axes.scatter(across, up, color=colour, s=size, label=name, zorder=3)
    best_x, best = next((x, trial["value"]) for x, trial in placed if trial["number"] == result["best"])
    axes.scatter([best_x], [best], color=ORANGE, s=60, label="best", zorder=4)


def _field_table(result: Json) -> Table:
    """Return one line a field: what was searched, the best value, and how much it mattered."""
    columns = (text("Field"), text("Searched"), number("Best"), number("Importance"))
    rows: list[list[Cell]] = []
    for name, searched in result["fields"].items():
        importance = result["importances"].get(name)
        best = format_value(_shorten_value(result["values"][name]))
        rows.append([Label(name), searched, best, make_bar(importance, format_number(importance))])
    return Table(columns, rows)


def _trial_table(result: Json) -> Table:
    """Return one line a trial, the best first."""
    columns = (
        text("Trial"),
        text("State"),
        number(result["metric"]),
        *(number(short) for short in shorten_paths(result["fields"]).values()),
        number("Seconds"),
        prose("Reason"),
    )
    rows: list[list[Cell]] = [
        [
            Chief(str(trial["number"])) if trial["number"] == result["best"] else str(trial["number"]),
            trial["state"],
            format_number(trial["value"]),
            *(format_value(_shorten_value(trial["values"].get(name))) for name in result["fields"]),
            format_count(trial["seconds"]),
            trial["why"] or "",
        ]
        for trial in rank_trials(result)
    ]
    return Table(columns, rows)


def rank_trials(result: Json) -> list[Json]:
    """Return the trials, the best first and those without a result last."""
    sign = 1 if result["falls"] else -1

    def sort_key(trial: Json) -> tuple[bool, bool, float, int]:
        value = trial["value"]
        return trial["state"] != "complete", value is None, sign * (value or 0.0), trial["number"]

    return sorted(result["trials"], key=sort_key)


def _shorten_value(value: object) -> object:
    """Return a number with its significant digits, as a small one would read 0; lists as text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if isinstance(value, (list, dict)) else value
