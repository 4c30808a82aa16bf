"""The page of a replayed history: the recommendation, the metric over time by policy, and what each policy cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.report.charts import INK, OURS, SOFT, THEIRS, figure_of, plain_axes, save
from evertune.report.html import Html, bar, count, join, note, number, picture, span, table, text, tiles
from evertune.report.pages.run import write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]
COLOURS = (SOFT, THEIRS, OURS, "#12703c", "#a21caf", "#b42318")  # of policies, in their order


def page(folder: Path, result: Json, model: str) -> Path:
    """Write `backtest.html` and its picture.

    Args:
        result: `plain(backtest.Result)`.
    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"history": save(drawn(result), folder / "history.png")}
    caption = f"{result['metric']} on the rows of each window, of the model in use then; a dot is a promotion."
    sections = {
        "Over time": picture(pictures, "history", caption),
        "Policies": join(summaries(result), note(
            "Below the best: mean difference to the best policy over the windows, with its 95% bootstrap interval. "
            "A promotion is wrong where the new model does worse than the old one on the rows of the next window."
        )),
        "Steps": steps(result),
    }  # fmt: skip
    hero = Html(
        f'<header class="hero promoted"><p class="where">{text(model)}, backtest by {text(result["every"])}</p>'
        f"<h1><b>Recommended</b>: {text(result['sentence'])}</h1></header>{_tiles(result)}"
    )
    return write(folder / "backtest.html", f"{model}: backtest", hero, sections, "")


def drawn(result: Json) -> "Figure":
    """The metric of each policy by window, on one picture."""
    made = figure_of(9.6, 4.0)
    axes = made.subplots()
    plain_axes(axes, "", result["metric"])
    days = list(dict.fromkeys(step["day"] for step in result["steps"]))
    for colour, policy in zip(_colours(result), result["summaries"], strict=False):
        own = {step["day"]: step for step in result["steps"] if step["policy"] == policy["policy"]}
        values = [own[day]["metrics"].get(result["metric"]) for day in days]
        axes.plot(range(len(days)), values, color=colour, label=policy["policy"], linewidth=1.6)
        at = [place for place, day in enumerate(days) if own[day]["promoted"] and values[place] is not None]
        axes.scatter(at, [values[place] for place in at], color=colour, s=26, zorder=3)
    step = max(1, len(days) // 12)
    axes.set_xticks(range(0, len(days), step), days[::step], rotation=30, ha="right", fontsize=8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=6, frameon=False, fontsize=9, labelcolor=INK)
    return made


def _colours(result: Json) -> Sequence[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(result["summaries"]))]


def summaries(result: Json) -> Html:
    """One line a policy."""
    most = max(one["seconds"] for one in result["summaries"]) or 1
    rows = [
        [
            Html(f'<span class="chief">{text(one["policy"])}</span>' if one["policy"] == result["recommended"] else
                 text(one["policy"])),
            number(one["metric"]), number(one["below"], signed=True), span(one["low"], one["high"], signed=True),
            count(one["retrainings"]), count(one["promotions"]), count(one["wrong"]),
            bar(one["seconds"] / most, count(one["seconds"]), "quiet"),
        ]
        for one in result["summaries"]
    ]  # fmt: skip
    heads = ("Policy", f"Mean {result['metric']}", "Below the best", "Interval", "Retrainings", "Promotions", "Wrong",
             "Seconds of training")  # fmt: skip
    return table(heads, rows)


def steps(result: Json) -> Html:
    """Every step that did something."""
    rows = [
        [
            text(step["day"]), text(step["policy"]), _done(step), count(step["rows"]), number(step["before"]),
            number(step["metrics"].get(result["metric"])), number(step["drift"]), text(step["reason"] or ""),
        ]
        for step in result["steps"] if step["retrained"] or step["drift"] is not None
    ]  # fmt: skip
    heads = ("From", "Policy", "Done", "Rows", "Old model", "Model in use", "Drift, p", "Why")
    return table(heads, rows, named=3, kind="prose")


def _done(step: Json) -> Html:
    if step["wrong"]:
        return Html('<span class="bad">promoted, wrongly</span>')
    if step["promoted"]:
        return text("promoted")
    return text(step["verdict"] or ("retrained" if step["retrained"] else "no drift"))


def _tiles(result: Json) -> Html:
    chosen = next(one for one in result["summaries"] if one["policy"] == result["recommended"])
    found = [
        (f"mean {result['metric']}", number(chosen["metric"]), f"{chosen['windows']} windows"),
        ("wrong promotions", count(chosen["wrong"]), f"of {chosen['promotions']}"),
        ("retrainings", count(chosen["retrainings"]), f"{chosen['seconds']:,.0f} s of training"),
        *((f"rows {why}", count(rows), "left out") for why, rows in result["left_out"].items()),
    ]
    return tiles(found)
