"""The page of a model's whole history: the champion over time, every decision, its data, drift and backtests."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.report.charts import OURS, SOFT, THEIRS, figure_of, plain_axes, save
from evertune.report.html import Html, count, facts, join, known, note, number, picture, small, span, table, text, tiles
from evertune.report.pages.run import write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]
OPEN, FOLDED = 50, 1_000  # lines of a table that stand open, and those folded below them: the page stays small
REASON = 300  # characters of a reason
GOOD, BAD = {"promoted", "approved"}, {"rejected", "rejected-by-hand", "rollback", "drift"}


def page(path: Path, told: Json) -> Path:
    """Write the history as one self-contained HTML file, and its picture for it beside it.

    Args:
        told: as `registry.chronicle` tells it.
    Raises:
        OSError: the page cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = over_time(told)
    pictures = {} if drawn is None else {"history": save(drawn, path.with_suffix(".png"))}
    below = "Below: rows of the corpus, and those refused, at each training. " if _sized(told) else ""
    caption = (
        f"{'Above: ' if below else ''}{told['metric']} on the test rows of its time with the gate's interval, of each "
        f"version; the line is the version in use. {below}Test rows grow, so that two versions were not always judged "
        "on the same ones: each decision compares both models on the same rows."
    )
    sections = {
        "Over time": picture(pictures, "history", caption),
        "Decisions": _decisions(told["decisions"], path.parent),
        "Trainings": _trainings(told["trainings"]),
        "Drift checks": _checks(told["monitors"]),
        "Backtests": _told(("When", "Recommended"), [[_when(one), text(one["reason"] or one["status"].lower())]
                           for one in reversed(told["backtests"])]),
    }  # fmt: skip
    champion = f"version {told['champion']} is champion" if told["champion"] else "no champion"
    hero = Html(
        f'<header class="hero unchanged"><p class="where">{text(told["model"])}, its whole history</p>'
        f"<h1><b>{text(champion)}</b></h1></header>{_tiles(told)}"
    )
    return write(path, f"{told['model']}: history", hero, sections, "")


def over_time(told: Json) -> "Figure | None":
    """The metric of each version and the champion's line, and below them the rows; nothing before the first version."""
    judged = [one for one in told["decisions"] if one["event"] == "decision" and known(one["challenger"])]
    if not judged:
        return None
    sized = _sized(told)
    figure = figure_of(9.6, 5.2 if sized else 3.6)
    above, *below = figure.subplots(2 if sized else 1, 1, sharex=True, squeeze=False)[:, 0]
    plain_axes(above, "", told["metric"])
    times, values = [_time(one) for one in judged], [one["challenger"] for one in judged]
    bounds = [
        [_or(one["low"], one["challenger"]) for one in judged],
        [_or(one["high"], one["challenger"]) for one in judged],
    ]
    above.vlines(times, *bounds, color=SOFT, linewidth=1, alpha=0.6)
    above.scatter(times, values, color=THEIRS, s=16, zorder=3, label="each version")
    line = _champions(told["decisions"], {one["version"]: one["challenger"] for one in judged})
    if line:
        above.step(*zip(*line, strict=True), where="post", color=OURS, linewidth=1.8, label="champion")
    above.legend(frameon=False, fontsize=9)
    for axes in below:
        plain_axes(axes, "", "rows")
        for name, colour, word in (("rows_corpus", OURS, "corpus"), ("rows_refused", THEIRS, "refused")):
            axes.plot(
                [_time(one) for one in sized], [_or(one[name], 0) for one in sized], ".-", color=colour, label=word
            )
        axes.legend(frameon=False, fontsize=9)
    figure.autofmt_xdate()
    return figure


def _sized(told: Json) -> list[Json]:
    """The trainings whose rows are known."""
    return [one for one in told["trainings"] if known(one["rows_corpus"])]


def _champions(decisions: Sequence[Json], scores: dict[Any, float]) -> list[tuple[datetime, float]]:
    """When which score came into use; of a version without one nothing is drawn."""
    moves = [one for one in decisions if one["event"] in {"moved", "external"}]
    return [(_time(one), scores[one["version"]]) for one in moves if one["version"] in scores]


def _decisions(decisions: Sequence[Json], folder: Path) -> Html:
    shown = [one for one in reversed(decisions) if one["event"] != "moved" or one["what"] != "moved"]
    rows = [
        [
            _when(one), _word(one["what"]), text(_versions(one)), number(one["challenger"]),
            span(one["low"], one["high"]),
            text(one["who"]), _reason(one), _link(one["report"], folder),
        ]
        for one in shown
    ]  # fmt: skip
    return _told(("When", "What", "Version", "Metric", "Interval", "Who", "Why", "Report"), rows)


def _trainings(trainings: Sequence[Json]) -> Html:
    rows = [
        [_when(one), text(one["status"].lower()), *(count(one[name]) for name in
         ("rows_corpus", "rows_accepted", "rows_refused", "training_seconds"))]
        for one in reversed(trainings)
    ]  # fmt: skip
    return _told(("When", "Run", "Corpus rows", "Accepted", "Refused", "Seconds of training"), rows)


def _checks(monitors: Sequence[Json]) -> Html:
    rows = [
        [
            _when(one),
            _word(one["found"]),
            text(one["version"] or ""),
            small(one["p"]),
            _reason(one),
        ]
        for one in reversed(monitors)
    ]
    return _told(("When", "Found", "Version", "p", "Why"), rows)


def _told(heads: Sequence[str], rows: list[list[Html]]) -> Html:
    """The newest lines open, older ones folded, the oldest counted."""
    older, left = rows[OPEN : OPEN + FOLDED], len(rows) - OPEN - FOLDED
    parts = [table(heads, rows[:OPEN], named=len(heads), kind="told")]
    if older:
        folded = table(heads, older, named=len(heads), kind="told")
        parts.append(Html(f"<details><summary>{len(older):,} older</summary>{folded}</details>"))
    if left > 0:
        parts.append(note(f"{left:,} still older ones are not shown; `evertune report --json` has all of them."))
    return join(*parts)


def _tiles(told: Json) -> Html:
    made = [one for one in told["decisions"] if one["event"] == "decision"]
    spent = [one["training_seconds"] for one in told["trainings"] if known(one["training_seconds"])]
    promoted = sum(one["what"] == "promoted" for one in made)
    drifted = sum(one["found"] == "drift" for one in told["monitors"])
    return tiles([
        ("decisions", count(len(made)), f"{promoted:,} promoted"),
        ("runs without news", count(told["unchanged"]), "nothing retrained"),
        ("drift checks", count(len(told["monitors"])), f"{drifted:,} told of drift"),
        ("training, seconds", count(sum(spent) if spent else None), f"{len(told['trainings']):,} runs"),
    ]) + facts((f"alias {name}", text(f"version {version}")) for name, version in told["aliases"].items())  # type: ignore[return-value]  # fmt: skip


def _word(word: str) -> Html:
    tone = "good" if word in GOOD else "bad" if word in BAD else ""
    return Html(f'<span class="mark {tone}">{text(word)}</span>')


def _link(report: str | None, folder: Path) -> Html:
    if report is None:
        return number(None)
    return Html(f'<a href="{text(os.path.relpath(report, folder))}">report</a>')


def _reason(one: Json) -> Html:
    reason = one["reason"] or ""
    return text(reason if len(reason) <= REASON else f"{reason[:REASON]}...")


def _versions(one: Json) -> str:
    if one["event"] in {"moved", "external"}:
        return f"{one['from'] or 'none'} to {one['version'] or 'none'}"
    return str(one["version"] or "")


def _when(one: Json) -> Html:
    return text(str(one["time"])[:16].replace("T", " "))


def _time(one: Json) -> datetime:
    return datetime.fromisoformat(one["time"])


def _or(value: float | None, other: float) -> float:
    return value if known(value) else other
