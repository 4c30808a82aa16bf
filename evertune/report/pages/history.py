"""The page of a model's whole history: the champion over time, every decision, its data, drift and backtests."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.report.charts import OURS, SOFT, THEIRS, make_figure, save_figure, style_axes
from evertune.report.html import (
    Html,
    build_facts,
    build_note,
    build_table,
    build_tiles,
    embed_picture,
    escape,
    format_count,
    format_interval,
    format_number,
    format_pvalue,
    is_number,
    join_parts,
)
from evertune.report.pages.run import write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]
OPEN = 50  # lines of a table that stand open, and those folded below them: the page stays small
FOLDED = 1_000
REASON = 300  # characters of a reason
GOOD = {"promoted", "approved"}
BAD = {"rejected", "rejected-by-hand", "rollback", "drift"}


def write_history_page(path: Path, history: Json) -> Path:
    """Write the history as one self-contained HTML file, and its picture for it beside it.

    Args:
        told: as `registry.chronicle` tells it.
    Raises:
        OSError: the page cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = draw_over_time(history)
    pictures = {} if figure is None else {"history": save_figure(figure, path.with_suffix(".png"))}
    below = "Below: rows of the corpus, and those refused, at each training. " if _sized_trainings(history) else ""
    caption = (
        f"{'Above: ' if below else ''}{history['metric']} on the test rows of its time with the gate's interval, "
        "of each "
        f"version; the line is the version in use. {below}Test rows grow, so that two versions were not always judged "
        "on the same ones: each decision compares both models on the same rows."
    )
    sections = {
        "Over time": embed_picture(pictures, "history", caption),
        "Decisions": _render_decisions(history["decisions"], path.parent),
        "Trainings": _render_trainings(history["trainings"]),
        "Drift checks": _render_checks(history["monitors"]),
        "Backtests": _folded_table(
            ("When", "Recommended"),
            [
                [_format_time(backtest), escape(backtest["reason"] or backtest["status"].lower())]
                for backtest in reversed(history["backtests"])
            ],
        ),
    }
    champion = f"version {history['champion']} is champion" if history["champion"] else "no champion"
    hero = Html(
        f'<header class="hero unchanged"><p class="where">{escape(history["model"])}, its whole history</p>'
        f"<h1><b>{escape(champion)}</b></h1></header>{_render_tiles(history)}"
    )
    return write_page(path, f"{history['model']}: history", hero, sections, "")


def draw_over_time(history: Json) -> "Figure | None":
    """The metric of each version and the champion's line, and below them the rows; nothing before the first version."""
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
        [_known_or(decision["low"], decision["challenger"]) for decision in decisions],
        [_known_or(decision["high"], decision["challenger"]) for decision in decisions],
    ]
    above.vlines(times, *bounds, color=SOFT, linewidth=1, alpha=0.6)
    above.scatter(times, values, color=THEIRS, s=16, zorder=3, label="each version")
    line = _champion_line(history["decisions"], {decision["version"]: decision["challenger"] for decision in decisions})
    if line:
        above.step(*zip(*line, strict=True), where="post", color=OURS, linewidth=1.8, label="champion")
    above.legend(frameon=False, fontsize=9)
    for axes in below:
        style_axes(axes, "", "rows")
        for name, colour, word in (("rows_corpus", OURS, "corpus"), ("rows_refused", THEIRS, "refused")):
            axes.plot(
                [_parse_time(training) for training in trainings],
                [_known_or(training[name], 0) for training in trainings],
                ".-",
                color=colour,
                label=word,
            )
        axes.legend(frameon=False, fontsize=9)
    figure.autofmt_xdate()
    return figure


def _sized_trainings(history: Json) -> list[Json]:
    """The trainings whose rows are known."""
    return [training for training in history["trainings"] if is_number(training["rows_corpus"])]


def _champion_line(decisions: Sequence[Json], scores: dict[Any, float]) -> list[tuple[datetime, float]]:
    """When which score came into use; of a version without one nothing is drawn."""
    moves = [entry for entry in decisions if entry["event"] in {"moved", "external"}]
    return [(_parse_time(move), scores[move["version"]]) for move in moves if move["version"] in scores]


def _render_decisions(decisions: Sequence[Json], folder: Path) -> Html:
    shown = [entry for entry in reversed(decisions) if entry["event"] != "moved" or entry["what"] != "moved"]
    rows = [
        [
            _format_time(entry),
            _mark_word(entry["what"]),
            escape(_format_versions(entry)),
            format_number(entry["challenger"]),
            format_interval(entry["low"], entry["high"]),
            escape(entry["who"]),
            _shorten_reason(entry),
            _link_report(entry["report"], folder),
        ]
        for entry in shown
    ]
    return _folded_table(("When", "What", "Version", "Metric", "Interval", "Who", "Why", "Report"), rows)


def _render_trainings(trainings: Sequence[Json]) -> Html:
    rows = [
        [
            _format_time(training),
            escape(training["status"].lower()),
            *(
                format_count(training[name])
                for name in ("rows_corpus", "rows_accepted", "rows_refused", "training_seconds")
            ),
        ]
        for training in reversed(trainings)
    ]
    return _folded_table(("When", "Run", "Corpus rows", "Accepted", "Refused", "Seconds of training"), rows)


def _render_checks(monitors: Sequence[Json]) -> Html:
    rows = [
        [
            _format_time(check),
            _mark_word(check["found"]),
            escape(check["version"] or ""),
            format_pvalue(check["p"]),
            _shorten_reason(check),
        ]
        for check in reversed(monitors)
    ]
    return _folded_table(("When", "Found", "Version", "p", "Why"), rows)


def _folded_table(heads: Sequence[str], rows: list[list[Html]]) -> Html:
    """The newest lines open, older ones folded, the oldest counted."""
    older = rows[OPEN : OPEN + FOLDED]
    hidden_count = len(rows) - OPEN - FOLDED
    parts = [build_table(heads, rows[:OPEN], named=len(heads), kind="told")]
    if older:
        folded = build_table(heads, older, named=len(heads), kind="told")
        parts.append(Html(f"<details><summary>{len(older):,} older</summary>{folded}</details>"))
    if hidden_count > 0:
        parts.append(
            build_note(f"{hidden_count:,} still older ones are not shown; `evertune report --json` has all of them.")
        )
    return join_parts(*parts)


def _render_tiles(history: Json) -> Html:
    decisions = [entry for entry in history["decisions"] if entry["event"] == "decision"]
    training_seconds = [
        training["training_seconds"] for training in history["trainings"] if is_number(training["training_seconds"])
    ]
    promoted = sum(decision["what"] == "promoted" for decision in decisions)
    drifted = sum(check["found"] == "drift" for check in history["monitors"])
    return build_tiles(
        [
            ("decisions", format_count(len(decisions)), f"{promoted:,} promoted"),
            ("runs without news", format_count(history["unchanged"]), "nothing retrained"),
            ("drift checks", format_count(len(history["monitors"])), f"{drifted:,} told of drift"),
            (
                "training, seconds",
                format_count(sum(training_seconds) if training_seconds else None),
                f"{len(history['trainings']):,} runs",
            ),
        ]
    ) + build_facts((f"alias {name}", escape(f"version {version}")) for name, version in history["aliases"].items())  # type: ignore[return-value]


def _mark_word(word: str) -> Html:
    tone = "good" if word in GOOD else "bad" if word in BAD else ""
    return Html(f'<span class="mark {tone}">{escape(word)}</span>')


def _link_report(report: str | None, folder: Path) -> Html:
    if report is None:
        return format_number(None)
    return Html(f'<a href="{escape(os.path.relpath(report, folder))}">report</a>')


def _shorten_reason(entry: Json) -> Html:
    reason = entry["reason"] or ""
    return escape(reason if len(reason) <= REASON else f"{reason[:REASON]}...")


def _format_versions(entry: Json) -> str:
    if entry["event"] in {"moved", "external"}:
        return f"{entry['from'] or 'none'} to {entry['version'] or 'none'}"
    return str(entry["version"] or "")


def _format_time(entry: Json) -> Html:
    return escape(str(entry["time"])[:16].replace("T", " "))


def _parse_time(entry: Json) -> datetime:
    return datetime.fromisoformat(entry["time"])


def _known_or(value: float | None, default: float) -> float:
    return value if is_number(value) else default
