"""The page's sections on the models; each is empty where there is nothing to say, and is then left out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evertune.objectives import TABLE, module
from evertune.report.html import (
    Html,
    bar,
    change,
    count,
    heading,
    join,
    known,
    label,
    note,
    number,
    picture,
    seen,
    small,
    span,
    table,
    text,  # fmt: skip
)

Json = dict[str, Any]
SPLITS = {
    "test": "test", "test_clean": "test without leaks", "fresh": "fresh", "history": "history",
    "new_labels": "labels that the champion does not know",
}  # fmt: skip
ASKED = {"superior": "p ≤ ", "noninferior": "low > ", "slice": "p > ", "robustness": "at least "}
CHANGED = {
    "broken": "The champion was right, the challenger is wrong",
    "fixed": "The champion was wrong, the challenger is right",
}
BESIDE = ("Champion", "Its interval", "Change")
CONFUSIONS = 15  # pairs of labels in the table
MOST = 200  # slices, or classes, in a table: with thousands of labels the page would grow to megabytes


def evidence(outcome: Json) -> Html:
    """Every test behind the decision: estimate, interval, p-value, threshold, and whether it passed."""
    heads = ("Test", "Result", "Rows", "Difference", "Interval", "p", "Asked", "Challenger", "Champion")
    return table(heads, [_tested(one) for one in outcome.get("evidence") or ()], named=2, kind="tests")


def _tested(one: Json) -> list[Html]:
    where = f" on {one['on']}" if one.get("on") else ""
    name = Html(f'{label(one["test"] + where)} <span class="soft pair">{text(one.get("metric") or "")}</span>')
    threshold = one.get("threshold")
    asked = Html(f"{text(ASKED.get(one['test'], ''))}{small(threshold)}") if known(threshold) else number(None)
    interval = span(one.get("low"), one.get("high"), signed=known(one.get("estimate")))
    return [
        name, _passed(one.get("passed")), _rows(one), number(one.get("estimate"), signed=True),
        interval, small(one.get("p")), asked, number(one.get("challenger")), number(one.get("champion")),
    ]  # fmt: skip


def _rows(one: Json) -> Html:
    """Rows, and the groups that they stand in where some stand together."""
    rows, groups = one.get("rows"), one.get("groups")
    if groups is None or groups == rows:
        return count(rows)
    return Html(f'{count(rows)} <span class="soft pair">in {count(groups)} groups</span>')


def _passed(passed: bool | None) -> Html:
    if passed is None:
        return number(None)
    return Html('<span class="mark good">✓ passed</span>' if passed else '<span class="mark bad">✗ failed</span>')


def robustness(details: Json) -> Html:
    """What each behavioural test did to the answers of each model; nothing where none was made."""
    heads = ("Test", "Rows", "Model", "Right before", "Right after", "Answers unchanged")
    rows = [
        [text(test), count(found["rows"]), text(model), *(number(one[key]) for key in ("before", "after", "unchanged"))]
        for test, found in (details.get("robustness") or {}).items()
        for model, one in found["models"].items()
    ]
    said = (
        "Small changes of the test rows, the same for both models. Where a text is denied, right is the opposite, "
        "and an answer should not stay as it was."
    )
    return join(table(heads, rows), note(said)) if rows else Html("")


def metrics(details: Json) -> Html:
    """Champion beside challenger: every metric on the test rows with its interval, the gate's on each set of rows."""
    ours, theirs = _models(details)
    if not ours:
        return Html("")
    chief = details.get("metric")
    heads = ["Metric", "Challenger", "Interval", *(BESIDE if theirs else [])]
    names = sorted(ours["metrics"].get("test", {}), key=lambda name: name != chief)
    rows = [_measured(name, name == chief, ours, theirs) for name in names]
    return join(table(heads, rows), _by_rows(details, ours, theirs))


def untrained(found: Json | None) -> Html:
    """What the base model reaches without training, or why that is not known."""
    if not found:
        return Html("")
    if why := found.get("why"):
        return note(f"Without training: no baseline, as {why}.")
    told = ", ".join(f"{name} {value:.4f}" for name, value in found["metrics"].items())
    return note(f"Without training, zero-shot ({found['how']}): {told} on {found['rows']:,} of the test rows.")


def _measured(name: str, chief: bool, ours: Json, theirs: Json) -> list[Html]:
    title = Html(f'<span class="chief">{text(name)}</span>') if chief else text(name)
    mine, other = _on(ours, "test", name), _on(theirs, "test", name)
    row = [title, number(mine), _interval(ours, name)]
    if not theirs:
        return row
    return [*row, *_compared(mine, other, name, theirs.get("intervals", {}).get(name))]


def _interval(model: Json, name: str) -> Html:
    return _bounds(model.get("intervals", {}).get(name))


def _bounds(interval: Sequence[float | None] | None) -> Html:
    """Low and high, the last two of an interval; a dash where all rows are alike, of which resamples tell nothing."""
    if not interval or interval[-2] == interval[-1]:
        return number(None)
    return span(interval[-2], interval[-1])


def _compared(mine: float | None, other: float | None, metric: str, interval: Any) -> list[Html]:
    """The champion's value, its interval, and the challenger's difference from it."""
    before, difference = _beside(mine, other, metric)
    return [before, _bounds(interval), difference]


def _by_rows(details: Json, ours: Json, theirs: Json) -> Html:
    """The gate's metric on every set of rows; test rows without leaks only where there are leaks."""
    metric, sizes = str(details.get("metric")), details.get("rows", {})
    found = [key for key in SPLITS if key in ours["metrics"]]
    if sizes.get("test_clean") == sizes.get("test"):
        found = [key for key in found if key != "test_clean"]
    rows = []
    for key in found:
        mine, other = _on(ours, key, metric), _on(theirs, key, metric)
        row = [text(SPLITS[key]), count(sizes.get(key)), bar(mine, number(mine))]
        rows.append([*row, *(_beside(mine, other, metric) if theirs else [])])
    heads = [f"{metric} on", "Rows", "Challenger", *(["Champion", "Change"] if theirs else [])]
    return table(heads, rows) if len(rows) > 1 else Html("")


def slices(details: Json) -> Html:
    """The metric on each slice of the test rows, the greatest losses first."""
    metric, (_, theirs) = str(details.get("slice_metric") or details.get("metric")), _models(details)
    found = sorted((details.get("slices") or {}).items(), key=lambda item: _loss(item[1], metric, bool(theirs)))
    rows = []
    for name, one in found[:MOST]:
        mine, bounds = one.get("challenger"), one.get("intervals", {})
        row = [text(name), count(one.get("rows")), bar(mine, number(mine)), _bounds(bounds.get("challenger"))]
        rows.append([*row, *(_compared(mine, one.get("champion"), metric, bounds.get("champion")) if theirs else [])])
    heads = ["Slice", "Rows", "Challenger", "Interval", *(BESIDE if theirs else [])]
    said = f"{metric} on the test rows, the {'greatest losses' if theirs else 'weakest'} first."
    return join(note(said), table(heads, rows), _more(len(found), "slices")) if rows else Html("")


def _more(found: int, what: str) -> Html:
    """How many are not shown."""
    return note(f"{found - MOST:,} more {what} are in details.json, in the run's folder.") if found > MOST else Html("")


def _loss(one: Json, metric: str, compared: bool) -> tuple[float, ...]:
    """What slices are sorted by; those without a value come last."""
    mine, sign = one.get("challenger"), -1 if metric in _falling() else 1
    difference = _minus(mine, one.get("champion")) if compared else None
    return tuple(sign * value if known(value) else math.inf for value in (difference, mine))


def classes(details: Json, pictures: Mapping[str, Path]) -> Html:
    """Precision, recall and F1 of each class, the weakest first; for tags the entities, then the words."""
    ours, theirs = _models(details)
    drawn = picture(pictures, "per_class", "F1 of each class, its rows in brackets; the mark is the champion's.")
    intervals = [model.get("class_intervals") or {} for model in (ours, theirs)]
    if "per_tag" not in ours:
        return join(_classes("Class", "Rows", ours.get("per_class"), theirs.get("per_class"), *intervals), drawn)
    entities = _classes("Entity type", "Entities", ours.get("per_class"), theirs.get("per_class"), *intervals)
    words = _classes("Tag", "Words", ours["per_tag"], theirs.get("per_tag"), {}, {})
    return join(entities, drawn, heading("Words by tag", words))


def _classes(kind: str, support: str, ours: Json | None, theirs: Json | None, mine: Json, other: Json) -> Html:
    """One line a class.

    Args:
        mine, other: intervals of F1 by class, the challenger's and the champion's.
    """
    rows, found = [], sorted((ours or {}).items(), key=lambda item: _or(item[1].get("f1"), -1))
    for name, one in found[:MOST]:
        f1, precision, recall = (one.get(key) for key in ("f1", "precision", "recall"))
        row = [text(name), count(one.get("support")), number(f1), _bounds(mine.get(name)), number(precision)]
        before = _compared(f1, theirs.get(name, {}).get("f1"), "f1", other.get(name)) if theirs else []
        rows.append([*row, number(recall), *before])
    heads = [kind, support, "F1", "Interval", "Precision", "Recall", *(["Champion F1", *BESIDE[1:]] if theirs else [])]
    return join(table(heads, rows), _more(len(found), "classes"))


def changed(details: Json) -> Html:
    """Rows that one model has right and the other wrong."""
    ours, _ = _models(details)
    told = _tags if "per_tag" in ours else _labels
    heads = ("Input", "Target", "Champion", "Challenger")
    parts = []
    for kind, title in CHANGED.items():
        rows = [[seen(one["input"]), *told(one)] for one in details.get("changed") or () if one["kind"] == kind]
        parts.append(heading(title, table(heads, rows, named=4, kind="prose")))
    return join(*parts)


def samples(details: Json) -> Html:
    """What the models say of some test rows, side by side."""
    told = [one for one in ("champion", "challenger") if details.get(one)]
    rows = [[seen(one.get(name, "")) for name in ("input", "target", *told)] for one in details.get("samples") or ()]
    heads = ("Given", "Wanted", *map(str.capitalize, told))
    return table(heads, rows, named=len(heads), kind="prose")


def _labels(one: Json) -> list[Html]:
    return [_mark(label(one[key]), one[key] == one["target"]) for key in ("target", "champion", "challenger")]


def _tags(one: Json) -> list[Html]:
    """Of a sentence, only the words that are not tagged alike by all."""
    parts = [one[key].split() for key in ("input", "target", "champion", "challenger")]
    differing = [column for column in zip(*parts, strict=False) if len(set(column[1:])) > 1]
    cells = []
    for place in (1, 2, 3):
        tagged = [(f"{column[0]} {column[place]}", column[place] == column[1]) for column in differing]
        cells.append(join(*(Html(f'<span class="pair">{_mark(text(told), right)}</span>') for told, right in tagged)))
    return cells


def _mark(told: Html, right: bool) -> Html:
    return told if right else Html(f'<span class="bad">{told}</span>')


def confusion(details: Json, pictures: Mapping[str, Path]) -> Html:
    """The challenger's confusion matrix, and the labels that it confuses most often."""
    matrix = _models(details)[0].get("confusion") or {}
    caption = "Rows are true labels, columns what the challenger said; the shade is the share of the row."
    pairs = sorted(_confused(matrix), key=lambda pair: -pair[2])[:CONFUSIONS]
    rows = [
        [text(true), text(guess), count(times), bar(times / total, number(times / total))]
        for true, guess, times, total in pairs
    ]
    heads = ("True", "Challenger said", "Times", "Share of true")
    confused = heading("Most frequent confusions", table(heads, rows, named=2, kind="fit"))
    return join(picture(pictures, "confusion", caption), confused)


def _confused(matrix: Json) -> Iterator[tuple[str, str, int, int]]:
    """Each pair of a true and a wrong label: how often, of how many."""
    names = matrix.get("names", [])
    for true, row in zip(names, matrix.get("counts", []), strict=True):
        for guess, times in zip(names, row, strict=True):
            if true != guess and times:
                yield true, guess, times, sum(row)


def calibration(pictures: Mapping[str, Path]) -> Html:
    """How far the challenger's confidence can be taken at its word."""
    return picture(pictures, "calibration", "On the dotted line, confidence is the share that is right.")


def _models(details: Json) -> tuple[Json, Json]:
    return details.get("challenger") or {}, details.get("champion") or {}


def _on(model: Json, rows: str, metric: str) -> float | None:
    found: float | None = model.get("metrics", {}).get(rows, {}).get(metric)
    return found


def _beside(mine: float | None, other: float | None, metric: str) -> list[Html]:
    """The champion's value and the challenger's difference from it."""
    difference = _minus(mine, other)
    return [number(other), change(difference, (_or(difference, 0) < 0) == (metric in _falling()))]


def _minus(one: float | None, other: float | None) -> float | None:
    return one - other if known(one) and known(other) else None


def _or(value: float | None, other: float) -> float:
    return value if known(value) else other


def _falling() -> set[str]:
    """Metrics of any objective that are better when lower."""
    return {metric for name in TABLE for metric in module(name).LOWER_IS_BETTER}
