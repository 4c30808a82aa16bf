"""The report of a model's history: the champion over time, every decision, training, drift check and backtest."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.report.charts import BLUE, GREY, ORANGE, make_figure, save_figure, style_axes
from evertune.report.formatting import (
    format_count,
    format_interval,
    format_number,
    format_pvalue,
    is_number,
    known_or,
)
from evertune.report.templating import write_page
from evertune.report.view import (
    Cell,
    Column,
    Fact,
    Head,
    Link,
    Picture,
    Table,
    Tile,
    Tone,
    Toned,
    embed_picture,
    interval,
    number,
    prose,
    text,
    time,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = Mapping[str, Any]
OPEN = 50  # lines of a table that are shown, and those folded below them: the page stays small
FOLDED = 1_000
REASON = 300  # characters of a reason
GOOD = {"promoted", "approved"}
BAD = {"rejected", "rejected-by-hand", "rollback", "drift"}


@dataclass(frozen=True, slots=True)
class FoldedTable:
    """A table whose older lines are folded."""

    newest: Table
    older: Table


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What the page shows.

    Args:
        has_row_counts: whether the picture shows the rows of each training.
    """

    metric: str
    aliases: list[Fact]
    over_time: Picture | None
    has_row_counts: bool
    decisions: FoldedTable
    trainings: FoldedTable
    checks: FoldedTable
    backtests: FoldedTable


def write_history_page(path: Path, history: Json) -> Path:
    """Write the history as one self-contained HTML file, and its picture in the same folder.

    Args:
        history: as `registry.decisions.history.build_history` returns it.
    Raises:
        OSError: the page cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = draw_over_time(history)
    pictures = {} if figure is None else {"history": save_figure(figure, path.with_suffix(".png"))}
    page = HistoryPage(
        metric=history["metric"],
        aliases=[Fact(f"alias {name}", f"version {version}") for name, version in history["aliases"].items()],
        over_time=embed_picture(pictures, "history"),
        has_row_counts=bool(_sized_trainings(history)),
        decisions=_decision_table(history["decisions"], path.parent),
        trainings=_training_table(history["trainings"]),
        checks=_check_table(history["monitors"]),
        backtests=_backtest_table(history["backtests"]),
    )
    return write_page(path, "history.html.j2", _build_head(history), page)


def _build_head(history: Json) -> Head:
    decisions = [entry for entry in history["decisions"] if entry["event"] == "decision"]
    promoted = sum(decision["what"] == "promoted" for decision in decisions)
    drifted = sum(check["found"] == "drift" for check in history["monitors"])
    seconds = [
        training["training_seconds"] for training in history["trainings"] if is_number(training["training_seconds"])
    ]
    return Head(
        title=f"{history['model']}: history",
        colour="unchanged",
        subject=f"{history['model']}, history",
        headline=f"version {history['champion']} is champion" if history["champion"] else "no champion",
        tiles=[
            Tile("decisions", format_count(len(decisions)), f"{promoted:,} promoted"),
            Tile("unchanged runs", format_count(history["unchanged"]), "nothing retrained"),
            Tile("drift checks", format_count(len(history["monitors"])), f"{drifted:,} found drift"),
            Tile(
                "training seconds",
                format_count(sum(seconds) if seconds else None),
                f"{len(history['trainings']):,} runs",
            ),
        ],
    )


def draw_over_time(history: Json) -> "Figure | None":
    """Draw the metric of each version, the champion's line, and the rows below them; None before the first version."""
    decisions = [
        decision
        for decision in history["decisions"]
        if decision["event"] == "decision" and is_number(decision["challenger"])
    ]
    if not decisions:
        return None
    trainings = _sized_trainings(history)
    figure = make_figure(9.6, 5.2 if trainings else 3.6)
    above, *below = figure.subplots(2 if trainings else 1, 1, sharex=True, squeeze=False)[:, 0]
    style_axes(above, "", history["metric"])
    times = [_parse_time(decision) for decision in decisions]
    values = [decision["challenger"] for decision in decisions]
    bounds = [
        [known_or(decision["low"], decision["challenger"]) for decision in decisions],
        [known_or(decision["high"], decision["challenger"]) for decision in decisions],
    ]
    above.vlines(times, *bounds, color=GREY, linewidth=1, alpha=0.6)
    above.scatter(times, values, color=ORANGE, s=16, zorder=3, label="each version")
    line = _champion_line(history["decisions"], {decision["version"]: decision["challenger"] for decision in decisions})
    if line:
        above.step(*zip(*line, strict=True), where="post", color=BLUE, linewidth=1.8, label="champion")
    above.legend(frameon=False, fontsize=9)
    for axes in below:
        style_axes(axes, "", "rows")
        for name, colour, word in (("rows_corpus", BLUE, "corpus"), ("rows_refused", ORANGE, "refused")):
            axes.plot(
                [_parse_time(training) for training in trainings],
                [known_or(training[name], 0) for training in trainings],
                ".-",
                color=colour,
                label=word,
            )
        axes.legend(frameon=False, fontsize=9)
    figure.autofmt_xdate()
    return figure


def _sized_trainings(history: Json) -> list[Json]:
    """Return the trainings whose rows are known."""
    return [training for training in history["trainings"] if is_number(training["rows_corpus"])]


def _champion_line(decisions: Sequence[Json], scores: dict[Any, float]) -> list[tuple[datetime, float]]:
    """Return when which score came into use; versions without a score are left out."""
    moves = [entry for entry in decisions if entry["event"] in {"moved", "external"}]
    return [(_parse_time(move), scores[move["version"]]) for move in moves if move["version"] in scores]


def _decision_table(decisions: Sequence[Json], folder: Path) -> FoldedTable:
    columns = (
        time("When"),
        text("Event"),
        text("Version"),
        number("Metric"),
        interval("Interval"),
        text("By"),
        prose("Reason"),
        text("Report"),
    )
    shown = [entry for entry in reversed(decisions) if entry["event"] != "moved" or entry["what"] != "moved"]
    rows: list[list[Cell]] = [
        [
            _format_time(entry),
            _mark_word(entry["what"]),
            _format_versions(entry),
            format_number(entry["challenger"]),
            format_interval(entry["low"], entry["high"]),
            str(entry["who"]),
            _shorten_reason(entry),
            _link_report(entry["report"], folder),
        ]
        for entry in shown
    ]
    return _fold_table(columns, rows)


def _training_table(trainings: Sequence[Json]) -> FoldedTable:
    columns = (
        time("When"),
        text("State"),
        number("Corpus rows"),
        number("Accepted"),
        number("Refused"),
        number("Training seconds"),
    )
    names = ("rows_corpus", "rows_accepted", "rows_refused", "training_seconds")
    rows: list[list[Cell]] = [
        [
            _format_time(training),
            training["status"].lower(),
            *(format_count(training[name]) for name in names),
        ]
        for training in reversed(trainings)
    ]
    return _fold_table(columns, rows)


def _check_table(checks: Sequence[Json]) -> FoldedTable:
    columns = (time("When"), text("Result"), text("Version"), number("p"), prose("Reason"))
    rows: list[list[Cell]] = [
        [
            _format_time(check),
            _mark_word(check["found"]),
            str(check["version"] or ""),
            format_pvalue(check["p"]),
            _shorten_reason(check),
        ]
        for check in reversed(checks)
    ]
    return _fold_table(columns, rows)


def _backtest_table(backtests: Sequence[Json]) -> FoldedTable:
    rows: list[list[Cell]] = [
        [_format_time(backtest), backtest["reason"] or backtest["status"].lower()] for backtest in reversed(backtests)
    ]
    return _fold_table((time("When"), prose("Recommended")), rows)


def _fold_table(columns: Sequence[Column], rows: list[list[Cell]]) -> FoldedTable:
    """Return the newest lines open, older ones folded, and the oldest counted."""
    older = rows[OPEN : OPEN + FOLDED]
    hidden = max(0, len(rows) - OPEN - FOLDED)
    return FoldedTable(Table(columns, rows[:OPEN]), Table(columns, older, hidden=hidden))


def _mark_word(word: str) -> Cell:
    tone: Tone = ""
    if word in GOOD:
        tone = "good"
    elif word in BAD:
        tone = "bad"
    return Toned(word, tone, strong=True)


def _link_report(report: str | None, folder: Path) -> Cell:
    return None if report is None else Link("report", os.path.relpath(report, folder))


def _shorten_reason(entry: Json) -> str:
    reason = entry["reason"] or ""
    return reason if len(reason) <= REASON else f"{reason[:REASON]}..."


def _format_versions(entry: Json) -> str:
    if entry["event"] in {"moved", "external"}:
        return f"{entry['from'] or 'none'} to {entry['version'] or 'none'}"
    return str(entry["version"] or "")


def _format_time(entry: Json) -> str:
    return str(entry["time"])[:16].replace("T", " ")


def _parse_time(entry: Json) -> datetime:
    return datetime.fromisoformat(entry["time"])
