"""The page's sections on the models; each is empty where there is nothing to say, and is then left out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evertune.objectives import TABLE, load_objective
from evertune.report.html import (
    Html,
    add_heading,
    build_note,
    build_table,
    draw_bar,
    embed_picture,
    escape,
    format_change,
    format_count,
    format_interval,
    format_number,
    format_pvalue,
    is_number,
    join_parts,
    show_data,
    show_label,
)

Json = dict[str, Any]
SPLITS = {
    "test": "test",
    "test_clean": "test without leaks",
    "fresh": "fresh",
    "history": "history",
    "new_labels": "labels that the champion does not know",
}
ASKED = {"superior": "p ≤ ", "noninferior": "low > ", "slice": "p > ", "robustness": "at least "}
CHANGED = {
    "broken": "The champion was right, the challenger is wrong",
    "fixed": "The champion was wrong, the challenger is right",
}
BESIDE = ("Champion", "Its interval", "Change")
CONFUSIONS = 15  # pairs of labels in the table
MOST = 200  # slices, or classes, in a table: with thousands of labels the page would grow to megabytes


def render_evidence(outcome: Json) -> Html:
    """Every test behind the decision: estimate, interval, p-value, threshold, and whether it passed."""
    heads = ("Test", "Result", "Rows", "Difference", "Interval", "p", "Asked", "Challenger", "Champion")
    return build_table(heads, [_evidence_row(check) for check in outcome.get("evidence") or ()], named=2, kind="tests")


def _evidence_row(check: Json) -> list[Html]:
    where = f" on {check['on']}" if check.get("on") else ""
    name = Html(
        f'{show_label(check["test"] + where)} <span class="soft pair">{escape(check.get("metric") or "")}</span>'
    )
    threshold = check.get("threshold")
    bound = (
        Html(f"{escape(ASKED.get(check['test'], ''))}{format_pvalue(threshold)}")
        if is_number(threshold)
        else format_number(None)
    )
    interval = format_interval(check.get("low"), check.get("high"), signed=is_number(check.get("estimate")))
    return [
        name,
        _mark_passed(check.get("passed")),
        _format_rows(check),
        format_number(check.get("estimate"), signed=True),
        interval,
        format_pvalue(check.get("p")),
        bound,
        format_number(check.get("challenger")),
        format_number(check.get("champion")),
    ]


def _format_rows(check: Json) -> Html:
    """Rows, and the groups that they stand in where some stand together."""
    rows = check.get("rows")
    groups = check.get("groups")
    if groups is None or groups == rows:
        return format_count(rows)
    return Html(f'{format_count(rows)} <span class="soft pair">in {format_count(groups)} groups</span>')


def _mark_passed(passed: bool | None) -> Html:
    if passed is None:
        return format_number(None)
    return Html('<span class="mark good">✓ passed</span>' if passed else '<span class="mark bad">✗ failed</span>')


def render_robustness(details: Json) -> Html:
    """What each behavioural test did to the answers of each model; nothing where none was made."""
    heads = ("Test", "Rows", "Model", "Right before", "Right after", "Answers unchanged")
    rows = [
        [
            escape(test),
            format_count(result["rows"]),
            escape(model),
            *(format_number(scores[key]) for key in ("before", "after", "unchanged")),
        ]
        for test, result in (details.get("robustness") or {}).items()
        for model, scores in result["models"].items()
    ]
    explanation = (
        "Small changes of the test rows, the same for both models. Where a text is denied, right is the opposite, "
        "and an answer should not stay as it was."
    )
    return join_parts(build_table(heads, rows), build_note(explanation)) if rows else Html("")


def render_metrics(details: Json) -> Html:
    """Champion beside challenger: every metric on the test rows with its interval, the gate's on each set of rows."""
    challenger, champion = _both_models(details)
    if not challenger:
        return Html("")
    chief = details.get("metric")
    heads = ["Metric", "Challenger", "Interval", *(BESIDE if champion else [])]
    names = sorted(challenger["metrics"].get("test", {}), key=lambda name: name != chief)
    rows = [_metric_row(name, name == chief, challenger, champion) for name in names]
    return join_parts(build_table(heads, rows), _metric_by_rows(details, challenger, champion))


def render_zero_shot(baseline: Json | None) -> Html:
    """What the base model reaches without training, or why that is not known."""
    if not baseline:
        return Html("")
    if reason := baseline.get("why"):
        return build_note(f"Without training: no baseline, as {reason}.")
    scores = ", ".join(f"{name} {value:.4f}" for name, value in baseline["metrics"].items())
    return build_note(
        f"Without training, zero-shot ({baseline['how']}): {scores} on {baseline['rows']:,} of the test rows."
    )


def _metric_row(name: str, chief: bool, challenger: Json, champion: Json) -> list[Html]:
    title = Html(f'<span class="chief">{escape(name)}</span>') if chief else escape(name)
    value = _metric_on(challenger, "test", name)
    champion_value = _metric_on(champion, "test", name)
    row = [title, format_number(value), _metric_interval(challenger, name)]
    if not champion:
        return row
    return [*row, *_compare_values(value, champion_value, name, champion.get("intervals", {}).get(name))]


def _metric_interval(model: Json, name: str) -> Html:
    return _format_bounds(model.get("intervals", {}).get(name))


def _format_bounds(interval: Sequence[float | None] | None) -> Html:
    """Low and high, the last two of an interval; a dash where all rows are alike, of which resamples tell nothing."""
    if not interval or interval[-2] == interval[-1]:
        return format_number(None)
    return format_interval(interval[-2], interval[-1])


def _compare_values(value: float | None, champion_value: float | None, metric: str, interval: Any) -> list[Html]:
    """The champion's value, its interval, and the challenger's difference from it."""
    before, difference = _show_change(value, champion_value, metric)
    return [before, _format_bounds(interval), difference]


def _metric_by_rows(details: Json, challenger: Json, champion: Json) -> Html:
    """The gate's metric on every set of rows; test rows without leaks only where there are leaks."""
    metric = str(details.get("metric"))
    sizes = details.get("rows", {})
    row_sets = [key for key in SPLITS if key in challenger["metrics"]]
    if sizes.get("test_clean") == sizes.get("test"):
        row_sets = [key for key in row_sets if key != "test_clean"]
    rows = []
    for key in row_sets:
        value = _metric_on(challenger, key, metric)
        champion_value = _metric_on(champion, key, metric)
        row = [escape(SPLITS[key]), format_count(sizes.get(key)), draw_bar(value, format_number(value))]
        rows.append([*row, *(_show_change(value, champion_value, metric) if champion else [])])
    heads = [f"{metric} on", "Rows", "Challenger", *(["Champion", "Change"] if champion else [])]
    return build_table(heads, rows) if len(rows) > 1 else Html("")


def render_slices(details: Json) -> Html:
    """The metric on each slice of the test rows, the greatest losses first."""
    metric = str(details.get("slice_metric") or details.get("metric"))
    (_, champion) = _both_models(details)
    sorted_slices = sorted(
        (details.get("slices") or {}).items(), key=lambda item: _slice_loss(item[1], metric, bool(champion))
    )
    rows = []
    for name, entry in sorted_slices[:MOST]:
        value = entry.get("challenger")
        bounds = entry.get("intervals", {})
        row = [
            escape(name),
            format_count(entry.get("rows")),
            draw_bar(value, format_number(value)),
            _format_bounds(bounds.get("challenger")),
        ]
        rows.append(
            [*row, *(_compare_values(value, entry.get("champion"), metric, bounds.get("champion")) if champion else [])]
        )
    heads = ["Slice", "Rows", "Challenger", "Interval", *(BESIDE if champion else [])]
    intro = f"{metric} on the test rows, the {'greatest losses' if champion else 'weakest'} first."
    return (
        join_parts(build_note(intro), build_table(heads, rows), _note_hidden(len(sorted_slices), "slices"))
        if rows
        else Html("")
    )


def _note_hidden(total: int, noun: str) -> Html:
    """How many are not shown."""
    return (
        build_note(f"{total - MOST:,} more {noun} are in details.json, in the run's folder.")
        if total > MOST
        else Html("")
    )


def _slice_loss(entry: Json, metric: str, is_compared: bool) -> tuple[float, ...]:
    """What slices are sorted by; those without a value come last."""
    score = entry.get("challenger")
    sign = -1 if metric in _falling_metrics() else 1
    difference = _subtract_known(score, entry.get("champion")) if is_compared else None
    return tuple(sign * value if is_number(value) else math.inf for value in (difference, score))


def render_classes(details: Json, pictures: Mapping[str, Path]) -> Html:
    """Precision, recall and F1 of each class, the weakest first; for tags the entities, then the words."""
    challenger, champion = _both_models(details)
    chart = embed_picture(pictures, "per_class", "F1 of each class, its rows in brackets; the mark is the champion's.")
    intervals = [model.get("class_intervals") or {} for model in (challenger, champion)]
    if "per_tag" not in challenger:
        return join_parts(
            _class_table("Class", "Rows", challenger.get("per_class"), champion.get("per_class"), *intervals), chart
        )
    entities = _class_table(
        "Entity type", "Entities", challenger.get("per_class"), champion.get("per_class"), *intervals
    )
    words = _class_table("Tag", "Words", challenger["per_tag"], champion.get("per_tag"), {}, {})
    return join_parts(entities, chart, add_heading("Words by tag", words))


def _class_table(
    kind: str, support: str, challenger: Json | None, champion: Json | None, intervals: Json, champion_intervals: Json
) -> Html:
    """One line a class.

    Args:
        mine, other: intervals of F1 by class, the challenger's and the champion's.
    """
    rows = []
    sorted_classes = sorted((challenger or {}).items(), key=lambda item: _known_or(item[1].get("f1"), -1))
    for name, entry in sorted_classes[:MOST]:
        f1, precision, recall = (entry.get(key) for key in ("f1", "precision", "recall"))
        row = [
            escape(name),
            format_count(entry.get("support")),
            format_number(f1),
            _format_bounds(intervals.get(name)),
            format_number(precision),
        ]
        before = (
            _compare_values(f1, champion.get(name, {}).get("f1"), "f1", champion_intervals.get(name))
            if champion
            else []
        )
        rows.append([*row, format_number(recall), *before])
    heads = [
        kind,
        support,
        "F1",
        "Interval",
        "Precision",
        "Recall",
        *(["Champion F1", *BESIDE[1:]] if champion else []),
    ]
    return join_parts(build_table(heads, rows), _note_hidden(len(sorted_classes), "classes"))


def render_changed(details: Json) -> Html:
    """Rows that one model has right and the other wrong."""
    challenger, _ = _both_models(details)
    show_answers = _show_tags if "per_tag" in challenger else _show_labels
    heads = ("Input", "Target", "Champion", "Challenger")
    parts = []
    for kind, title in CHANGED.items():
        rows = [
            [show_data(row["input"]), *show_answers(row)] for row in details.get("changed") or () if row["kind"] == kind
        ]
        parts.append(add_heading(title, build_table(heads, rows, named=4, kind="prose")))
    return join_parts(*parts)


def render_samples(details: Json) -> Html:
    """What the models say of some test rows, side by side."""
    models = [model for model in ("champion", "challenger") if details.get(model)]
    rows = [
        [show_data(row.get(name, "")) for name in ("input", "target", *models)] for row in details.get("samples") or ()
    ]
    heads = ("Given", "Wanted", *map(str.capitalize, models))
    return build_table(heads, rows, named=len(heads), kind="prose")


def _show_labels(row: Json) -> list[Html]:
    return [
        _mark_wrong(show_label(row[key]), row[key] == row["target"]) for key in ("target", "champion", "challenger")
    ]


def _show_tags(row: Json) -> list[Html]:
    """Of a sentence, only the words that are not tagged alike by all."""
    parts = [row[key].split() for key in ("input", "target", "champion", "challenger")]
    differing = [column for column in zip(*parts, strict=False) if len(set(column[1:])) > 1]
    cells = []
    for index in (1, 2, 3):
        tagged = [(f"{column[0]} {column[index]}", column[index] == column[1]) for column in differing]
        cells.append(
            join_parts(
                *(Html(f'<span class="pair">{_mark_wrong(escape(answer), right)}</span>') for answer, right in tagged)
            )
        )
    return cells


def _mark_wrong(answer: Html, is_right: bool) -> Html:
    return answer if is_right else Html(f'<span class="bad">{answer}</span>')


def render_confusion(details: Json, pictures: Mapping[str, Path]) -> Html:
    """The challenger's confusion matrix, and the labels that it confuses most often."""
    matrix = _both_models(details)[0].get("confusion") or {}
    caption = "Rows are true labels, columns what the challenger said; the shade is the share of the row."
    pairs = sorted(_confused_pairs(matrix), key=lambda pair: -pair[2])[:CONFUSIONS]
    rows = [
        [escape(true), escape(guess), format_count(times), draw_bar(times / total, format_number(times / total))]
        for true, guess, times, total in pairs
    ]
    heads = ("True", "Challenger said", "Times", "Share of true")
    confused = add_heading("Most frequent confusions", build_table(heads, rows, named=2, kind="fit"))
    return join_parts(embed_picture(pictures, "confusion", caption), confused)


def _confused_pairs(matrix: Json) -> Iterator[tuple[str, str, int, int]]:
    """Each pair of a true and a wrong label: how often, of how many."""
    names = matrix.get("names", [])
    for true, row in zip(names, matrix.get("counts", []), strict=True):
        for guess, times in zip(names, row, strict=True):
            if true != guess and times:
                yield true, guess, times, sum(row)


def render_calibration(pictures: Mapping[str, Path]) -> Html:
    """How far the challenger's confidence can be taken at its word."""
    return embed_picture(pictures, "calibration", "On the dotted line, confidence is the share that is right.")


def _both_models(details: Json) -> tuple[Json, Json]:
    return details.get("challenger") or {}, details.get("champion") or {}


def _metric_on(model: Json, rows: str, metric: str) -> float | None:
    value: float | None = model.get("metrics", {}).get(rows, {}).get(metric)
    return value


def _show_change(value: float | None, champion_value: float | None, metric: str) -> list[Html]:
    """The champion's value and the challenger's difference from it."""
    difference = _subtract_known(value, champion_value)
    return [
        format_number(champion_value),
        format_change(difference, (_known_or(difference, 0) < 0) == (metric in _falling_metrics())),
    ]


def _subtract_known(value: float | None, other_value: float | None) -> float | None:
    return value - other_value if is_number(value) and is_number(other_value) else None


def _known_or(value: float | None, default: float) -> float:
    return value if is_number(value) else default


def _falling_metrics() -> set[str]:
    """Metrics of any objective that are better when lower."""
    return {metric for name in TABLE for metric in load_objective(name).LOWER_IS_BETTER}
