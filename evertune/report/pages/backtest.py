"""The page of a replayed history: the recommendation, the metric over time by policy, and what each policy cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    format_interval,
    format_number,
    join_parts,
)
from evertune.report.pages.run import write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]
COLOURS = (SOFT, THEIRS, OURS, "#12703c", "#a21caf", "#b42318")  # of policies, in their order


def write_backtest_page(folder: Path, result: Json, model: str) -> Path:
    """Write `backtest.html` and its picture.

    Args:
        result: `plain(backtest.Result)`.
    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"history": save_figure(draw_history(result), folder / "history.png")}
    caption = f"{result['metric']} on the rows of each window, of the model in use then; a dot is a promotion."
    sections = {
        "Over time": embed_picture(pictures, "history", caption),
        "Policies": join_parts(
            render_summaries(result),
            build_note(
                "Below the best: mean difference to the best policy over the windows, with its 95% bootstrap interval. "
                "A promotion is wrong where the new model does worse than the old one on the rows of the next window."
            ),
        ),
        "Steps": render_steps(result),
    }
    hero = Html(
        f'<header class="hero promoted"><p class="where">{escape(model)}, backtest by {escape(result["every"])}</p>'
        f"<h1><b>Recommended</b>: {escape(result['sentence'])}</h1></header>{_render_tiles(result)}"
    )
    return write_page(folder / "backtest.html", f"{model}: backtest", hero, sections, "")


def draw_history(result: Json) -> "Figure":
    """The metric of each policy by window, on one picture."""
    figure = make_figure(9.6, 4.0)
    axes = figure.subplots()
    style_axes(axes, "", result["metric"])
    days = list(dict.fromkeys(step["day"] for step in result["steps"]))
    for colour, policy in zip(_policy_colours(result), result["summaries"], strict=False):
        policy_steps = {step["day"]: step for step in result["steps"] if step["policy"] == policy["policy"]}
        values = [policy_steps[day]["metrics"].get(result["metric"]) for day in days]
        axes.plot(range(len(days)), values, color=colour, label=policy["policy"], linewidth=1.6)
        promoted_at = [
            index for index, day in enumerate(days) if policy_steps[day]["promoted"] and values[index] is not None
        ]
        axes.scatter(promoted_at, [values[index] for index in promoted_at], color=colour, s=26, zorder=3)
    step = max(1, len(days) // 12)
    axes.set_xticks(range(0, len(days), step), days[::step], rotation=30, ha="right", fontsize=8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=6, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _policy_colours(result: Json) -> Sequence[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(result["summaries"]))]


def render_summaries(result: Json) -> Html:
    """One line a policy."""
    longest = max(summary["seconds"] for summary in result["summaries"]) or 1
    rows = [
        [
            Html(
                f'<span class="chief">{escape(summary["policy"])}</span>'
                if summary["policy"] == result["recommended"]
                else escape(summary["policy"])
            ),
            format_number(summary["metric"]),
            format_number(summary["below"], signed=True),
            format_interval(summary["low"], summary["high"], signed=True),
            format_count(summary["retrainings"]),
            format_count(summary["promotions"]),
            format_count(summary["wrong"]),
            draw_bar(summary["seconds"] / longest, format_count(summary["seconds"]), "quiet"),
        ]
        for summary in result["summaries"]
    ]
    heads = (
        "Policy",
        f"Mean {result['metric']}",
        "Below the best",
        "Interval",
        "Retrainings",
        "Promotions",
        "Wrong",
        "Seconds of training",
    )
    return build_table(heads, rows)


def render_steps(result: Json) -> Html:
    """Every step that did something."""
    rows = [
        [
            escape(step["day"]),
            escape(step["policy"]),
            _render_outcome(step),
            format_count(step["rows"]),
            format_number(step["before"]),
            format_number(step["metrics"].get(result["metric"])),
            format_number(step["drift"]),
            escape(step["reason"] or ""),
        ]
        for step in result["steps"]
        if step["retrained"] or step["drift"] is not None
    ]
    heads = ("From", "Policy", "Done", "Rows", "Old model", "Model in use", "Drift, p", "Why")
    return build_table(heads, rows, named=3, kind="prose")


def _render_outcome(step: Json) -> Html:
    if step["wrong"]:
        return Html('<span class="bad">promoted, wrongly</span>')
    if step["promoted"]:
        return escape("promoted")
    return escape(step["verdict"] or ("retrained" if step["retrained"] else "no drift"))


def _render_tiles(result: Json) -> Html:
    chosen = next(summary for summary in result["summaries"] if summary["policy"] == result["recommended"])
    items = [
        (f"mean {result['metric']}", format_number(chosen["metric"]), f"{chosen['windows']} windows"),
        ("wrong promotions", format_count(chosen["wrong"]), f"of {chosen['promotions']}"),
        ("retrainings", format_count(chosen["retrainings"]), f"{chosen['seconds']:,.0f} s of training"),
        *((f"rows {reason}", format_count(rows), "left out") for reason, rows in result["left_out"].items()),
    ]
    return build_tiles(items)
