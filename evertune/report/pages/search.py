"""The page of a search: the best values, how it went, and which fields mattered."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.config.search import shorten_paths
from evertune.report.charts import INK, OURS, SOFT, THEIRS, make_figure, save_figure, style_axes
from evertune.report.html import (
    Html,
    build_note,
    build_table,
    build_tiles,
    draw_bar,
    embed_picture,
    escape,
    format_count,
    format_number,
    format_value,
    is_number,
    join_parts,
    show_label,
)
from evertune.report.pages.run import write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]
BESIDE = 3  # pictures of fields in one row


def write_search_page(folder: Path, result: Json, model: str) -> Path:
    """Write `search.html` and its pictures.

    Args:
        result: `plain(search.Result)`.
    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"history": draw_history(result), "fields": draw_fields(result)}
    pictures = {name: save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()}
    sections = {
        "Over the trials": embed_picture(
            pictures, "history", f"{result['metric']} by trial; the line is the best so far."
        ),
        "Fields": join_parts(
            render_fields(result),
            embed_picture(pictures, "fields", "Every trial by the value of a field."),
            build_note(
                "Importance: a field's share of the changes of the metric (PED-ANOVA), told where two fields and two "
                "different trials are there."
            ),
        ),
        "Trials": render_trials(result),
    }
    hero = Html(
        f'<header class="hero promoted"><p class="where">{escape(model)}, a search</p>'
        f"<h1><b>Best</b>: {escape(result['sentence'])}</h1></header>{_render_tiles(result)}"
    )
    return write_page(
        folder / "search.html", f"{model}: search", hero, sections, f" for run {escape(result['run_id'])}"
    )


def draw_history(result: Json) -> "Figure":
    """The metric by trial and the best so far; beside it the importance of each field, where it is known."""
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
    metric_axes.step([trial["number"] for trial in ended], line, where="post", color=OURS, linewidth=1.4)
    metric_axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9, labelcolor=INK
    )
    for axes in importance_axes:
        style_axes(axes, "importance", "")
        names = shorten_paths(result["importances"])
        axes.barh(range(len(names)), list(result["importances"].values()), height=0.5, color=OURS)
        axes.set_yticks(range(len(names)), [*names.values()], fontsize=8, parse_math=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
    return figure


def draw_fields(result: Json) -> "Figure":
    """The metric by the value of each field."""
    names = list(result["fields"])
    rows = -(-len(names) // BESIDE)
    figure = make_figure(9.6, 2.9 * rows)
    for index, axes in enumerate(figure.subplots(rows, BESIDE, squeeze=False).ravel()):
        if index >= len(names):
            axes.set_visible(False)
            continue
        name = names[index]
        style_axes(axes, name, "" if index % BESIDE else result["metric"])
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
    for states, colour, size, name in (("complete", INK, 26, "complete"), ("pruned", SOFT, 14, "pruned")):
        points = [(x, trial["value"]) for x, trial in placed if trial["state"] == states and is_number(trial["value"])]
        if points:
            across, up = zip(*points, strict=True)
            axes.scatter(across, up, color=colour, s=size, label=name, zorder=3)
    best_x, best = next((x, trial["value"]) for x, trial in placed if trial["number"] == result["best"])
    axes.scatter([best_x], [best], color=THEIRS, s=60, label="best", zorder=4)


def render_fields(result: Json) -> Html:
    """One line a field: what was searched, what was found, what it mattered."""
    rows = [
        [
            show_label(name),
            escape(words),
            format_value(_shorten_value(result["values"][name])),
            draw_bar(result["importances"].get(name), format_number(result["importances"].get(name))),
        ]
        for name, words in result["fields"].items()
    ]
    return build_table(("Field", "Searched", "Best", "Importance"), rows, named=2)


def render_trials(result: Json) -> Html:
    """One line a trial, the best first."""
    rows = [
        [
            Html(f'<span class="{"chief" if trial["number"] == result["best"] else ""}">{trial["number"]}</span>'),
            escape(trial["state"]),
            format_number(trial["value"]),
            *(format_value(_shorten_value(trial["values"].get(name))) for name in result["fields"]),
            format_count(trial["seconds"]),
            escape(trial["why"] or ""),
        ]
        for trial in rank_trials(result)
    ]
    return build_table(("Trial", "Ended", result["metric"], *result["fields"], "Seconds", "Why"), rows, named=2)


def rank_trials(result: Json) -> list[Json]:
    """The trials, the best first; those that came to nothing last."""
    sign = 1 if result["falls"] else -1

    def sort_key(trial: Json) -> tuple[Any, ...]:
        value = trial["value"]
        return trial["state"] != "complete", value is None, sign * (value or 0.0), trial["number"]

    return sorted(result["trials"], key=sort_key)


def _shorten_value(value: Any) -> Any:
    """A small number is told with its digits, not as 0."""
    return f"{value:.4g}" if isinstance(value, float) else value if not isinstance(value, (list, dict)) else str(value)


def _render_tiles(result: Json) -> Html:
    states = [trial["state"] for trial in result["trials"]]
    return build_tiles(
        [
            (f"{result['metric']}, validation", format_number(result["value"]), escape(f"trial {result['best']}")),
            ("trials", format_count(len(states)), escape(f"{states.count('pruned')} pruned")),
            (
                "training",
                format_count(sum(trial["seconds"] for trial in result["trials"])),
                escape("seconds, all trials"),
            ),
            ("rows", format_count(sum(result["rows"].values())), escape("train and validation; no test row was read")),
        ]
    )
