"""The report of a backtest: the recommended policy, the metric over time, and what each policy cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.report.charts import BLUE, GREY, INK, ORANGE, make_figure, save_figure, style_axes
from evertune.report.formatting import format_count, format_interval, format_number
from evertune.report.templating import write_page
from evertune.report.view import (
    Cell,
    Chief,
    Head,
    Picture,
    Table,
    Tile,
    Toned,
    embed_picture,
    interval,
    make_bar,
    number,
    prose,
    text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]
LIKELY = 0.5  # a promotion is called wrong if the new model is more probably worse than better
COLOURS = (
    GREY,
    ORANGE,
    BLUE,
    "#12703c",
    "#a21caf",
    "#b42318",
    "#0e7490",
    "#854d0e",
    "#111827",
)  # of policies, in their order


@dataclass(frozen=True, slots=True)
class BacktestPage:
    """What the page shows."""

    metric: str
    over_time: Picture | None
    frontier: Picture | None
    policies: Table
    steps: Table


def write_backtest_page(folder: Path, result: Json, model: str) -> Path:
    """Write `backtest.html` and its picture.

    Args:
        result: a plain `backtest.Result`; model: name of the recipe.
    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"history": save_figure(draw_history(result), folder / "history.png")}
    if sum(summary["below"] is not None for summary in result["summaries"]) > 1:
        pictures["frontier"] = save_figure(draw_frontier(result), folder / "frontier.png")
    page = BacktestPage(
        metric=result["metric"],
        over_time=embed_picture(pictures, "history"),
        frontier=embed_picture(pictures, "frontier"),
        policies=_policy_table(result),
        steps=_step_table(result),
    )
    return write_page(folder / "backtest.html", "backtest.html.j2", _build_head(result, model), page)


def _build_head(result: Json, model: str) -> Head:
    chosen = next(summary for summary in result["summaries"] if summary["policy"] == result["recommended"])
    return Head(
        title=f"{model}: backtest",
        colour="promoted",
        subject=f"{model}, backtest by {result['every']}",
        headline="Recommended",
        sentence=result["sentence"],
        tiles=[
            Tile(f"mean {result['metric']}", format_number(chosen["metric"]), f"{chosen['windows']} windows"),
            Tile("points lost", format_number(chosen["lost"]), f"by {max(0, chosen['promotions'] - 1)} promotions"),
            Tile("retrainings", format_count(chosen["retrainings"]), f"{chosen['seconds']:,.0f} s of training"),
            *(Tile(f"rows {reason}", format_count(rows), "left out") for reason, rows in result["left_out"].items()),
        ],
    )


def draw_history(result: Json) -> "Figure":
    """Draw the metric of each policy by window."""
    figure = make_figure(9.6, 4.0)
    axes = figure.subplots()
    style_axes(axes, "", result["metric"])
    days = list(dict.fromkeys(step["day"] for step in result["steps"]))
    for index, policy in enumerate(result["summaries"]):
        colour = COLOURS[index % len(COLOURS)]
        policy_steps = {step["day"]: step for step in result["steps"] if step["policy"] == policy["policy"]}
        values = [policy_steps[day]["metrics"].get(result["metric"]) for day in days]
        axes.plot(range(len(days)), values, color=colour, label=policy["policy"], linewidth=1.6)
        promoted_at = [
            window for window, day in enumerate(days) if policy_steps[day]["promoted"] and values[window] is not None
        ]
        axes.scatter(promoted_at, [values[window] for window in promoted_at], color=colour, s=26, zorder=3)
    step = max(1, len(days) // 12)
    axes.set_xticks(range(0, len(days), step), days[::step], rotation=30, ha="right", fontsize=8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=6, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def draw_frontier(result: Json) -> "Figure":
    """Draw what each policy misses against what its promotions lost; the best is at the lower left."""
    figure = make_figure(6.4, 4.0)
    axes = figure.subplots()
    style_axes(axes, f"{result['metric']} lost by promotions", "below the best policy")
    labels: dict[tuple[float, float], list[str]] = {}  # policies that did the same share a point
    for index, summary in enumerate(result["summaries"]):
        if summary["below"] is None:
            continue
        colour = COLOURS[index % len(COLOURS)]
        axes.scatter([summary["lost"]], [summary["below"]], color=colour, s=36, zorder=3)
        labels.setdefault((summary["lost"], summary["below"]), []).append(summary["policy"])
    for point, names in labels.items():
        axes.annotate(
            ", ".join(names), point, textcoords="offset points", xytext=(6, 4), fontsize=9, color=INK, parse_math=False
        )
    axes.margins(0.15)
    return figure


def _policy_table(result: Json) -> Table:
    """Return one line a policy."""
    columns = (
        text("Policy"),
        number(f"Mean {result['metric']}"),
        number("From the best"),
        interval("Interval"),
        number("Retrainings"),
        number("Promotions"),
        number("Wrong, expected"),
        number("Proven wrong"),
        number("Lost"),
        interval("Interval"),
        number("Utility"),
        number("Training seconds"),
    )
    longest = max(summary["seconds"] for summary in result["summaries"]) or 1
    rows: list[list[Cell]] = [
        [
            Chief(summary["policy"]) if summary["policy"] == result["recommended"] else summary["policy"],
            format_number(summary["metric"]),
            format_number(summary["below"], signed=True),
            format_interval(summary["low"], summary["high"], signed=True),
            format_count(summary["retrainings"]),
            format_count(summary["promotions"]),
            format_number(summary["expected_wrong"]),
            format_count(summary["proven_wrong"]),
            format_number(summary["lost"]),
            format_interval(summary["lost_low"], summary["lost_high"]),
            format_number(summary["utility"]),
            make_bar(summary["seconds"] / longest, format_count(summary["seconds"]), quiet=True),
        ]
        for summary in result["summaries"]
    ]
    return Table(columns, rows)


def _step_table(result: Json) -> Table:
    """Return one line for every step that did something."""
    columns = (
        text("From"),
        text("Policy"),
        text("Action"),
        number("Rows"),
        number("Old model"),
        number("Model in use"),
        number("Drift, p"),
        prose("Reason"),
    )
    rows: list[list[Cell]] = [
        [
            step["day"],
            step["policy"],
            _describe_action(step),
            format_count(step["rows"]),
            format_number(step["before"]),
            format_number(step["metrics"].get(result["metric"])),
            format_number(step["drift"]),
            step["reason"] or "",
        ]
        for step in result["steps"]
        if step["retrained"] or step["drift"] is not None
    ]
    return Table(columns, rows)


def _describe_action(step: Json) -> Cell:
    if step["proven_wrong"] or (step["chance_wrong"] or 0) > LIKELY:
        return Toned("promoted, wrong", "bad")
    if step["promoted"]:
        return "promoted"
    if step["verdict"]:
        return str(step["verdict"])
    return "retrained" if step["retrained"] else "no drift"
