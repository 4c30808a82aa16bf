"""How well the models do on each class, and which classes the challenger confuses."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evertune.report.formatting import format_count, format_number, known_or
from evertune.report.sections.metrics import MOST, both_models, compare_columns, compare_values, format_bounds
from evertune.report.view import Cell, Table, interval, make_bar, number, prose, text

Json = dict[str, Any]
CONFUSIONS = 15  # pairs of labels in the table


@dataclass(frozen=True, slots=True)
class Classes:
    """Scores by class.

    Args:
        main: of labels, or of entity types; tags: of single tags, where words are tagged.
    """

    main: Table
    tags: Table | None = None


def build_classes(details: Json) -> Classes:
    """Return precision, recall and F1 of each class, the weakest first."""
    challenger, champion = both_models(details)
    is_tagging = "per_tag" in challenger
    main = _class_table(
        ("Entity type", "Entities") if is_tagging else ("Class", "Rows"),
        challenger.get("per_class") or {},
        champion.get("per_class"),
        challenger.get("class_intervals") or {},
        champion.get("class_intervals") or {},
    )
    if not is_tagging:
        return Classes(main)
    return Classes(main, _class_table(("Tag", "Words"), challenger["per_tag"], champion.get("per_tag"), {}, {}))


def _class_table(
    heads: tuple[str, str], challenger: Json, champion: Json | None, intervals: Json, champion_intervals: Json
) -> Table:
    """Return one line a class.

    Args:
        heads: of the class, and of the number of its rows.
        challenger, champion: scores by class.
        intervals, champion_intervals: of F1, by class.
    """
    kind, support = heads
    columns = [
        prose(kind),
        number(support),
        number("F1"),
        interval("Interval"),
        number("Precision"),
        number("Recall"),
        *(compare_columns("Champion F1") if champion else ()),
    ]
    ranked = sorted(challenger.items(), key=lambda item: known_or(item[1].get("f1"), -1))
    rows: list[list[Cell]] = []
    for name, entry in ranked[:MOST]:
        f1 = entry.get("f1")
        row = [
            name,
            format_count(entry.get("support")),
            format_number(f1),
            format_bounds(intervals.get(name)),
            format_number(entry.get("precision")),
            format_number(entry.get("recall")),
        ]
        comparison = []
        if champion:
            comparison = compare_values(f1, champion.get(name, {}).get("f1"), "f1", champion_intervals.get(name))
        rows.append([*row, *comparison])
    return Table(columns, rows, hidden=max(0, len(ranked) - MOST))


def build_confusions(details: Json) -> Table:
    """Return the pairs of labels that the challenger confuses most often."""
    challenger, _ = both_models(details)
    pairs = sorted(_confused_pairs(challenger.get("confusion") or {}), key=lambda pair: -pair[2])[:CONFUSIONS]
    columns = (text("True label"), text("Predicted"), number("Rows"), number("Share of true label"))
    rows = [
        [true, predicted, format_count(times), make_bar(times / total, format_number(times / total))]
        for true, predicted, times, total in pairs
    ]
    return Table(columns, rows, fit=True)


def _confused_pairs(matrix: Json) -> Iterator[tuple[str, str, int, int]]:
    """Yield each pair of a true and a wrong label: how often, and how many rows have the true label."""
    names = matrix.get("names", [])
    for true, counts in zip(names, matrix.get("counts", []), strict=True):
        for predicted, times in zip(names, counts, strict=True):
            if true != predicted and times:
                yield true, predicted, times, sum(counts)
