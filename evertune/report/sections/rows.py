"""Single test rows: those that one model has right and the other wrong, and samples of what the models answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evertune.report.view import Cell, Label, Lines, Table, Thumbnail, Toned, Words, prose, show_data

Json = dict[str, Any]
ANSWERS = ("target", "champion", "challenger")
DRAWN = ("true", "challenger", "champion")


@dataclass(frozen=True, slots=True)
class Changed:
    """Rows that one model has right and the other wrong.

    Args:
        broken: right before, wrong now; fixed: the other way round.
    """

    broken: Table
    fixed: Table


@dataclass(frozen=True, slots=True)
class Tile:
    """One row of a gallery: its pictures from left to right."""

    pictures: list[Words | Thumbnail]
    caption: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the models drew.

    Args:
        names: of the pictures in each tile.
    """

    names: list[str]
    tiles: list[Tile]


def build_changed(details: Json) -> Changed:
    """Return the rows whose answer became wrong, and those whose answer became right."""
    show_answers = _show_tags if "per_tag" in (details.get("challenger") or {}) else _show_labels
    changed = details.get("changed") or []
    return Changed(
        _changed_table([row for row in changed if row["kind"] == "broken"], show_answers),
        _changed_table([row for row in changed if row["kind"] == "fixed"], show_answers),
    )


def _changed_table(rows: list[Json], show_answers: Callable[[Json], list[Cell]]) -> Table:
    columns = (prose("Input"), prose("Target"), prose("Champion"), prose("Challenger"))
    return Table(columns, [[show_data(row["input"]), *show_answers(row)] for row in rows])


def _show_labels(row: Json) -> list[Cell]:
    return [Label(row[key], "" if row[key] == row["target"] else "bad") for key in ANSWERS]


def _show_tags(row: Json) -> list[Cell]:
    """Return, of a sentence, only the words that are not tagged alike by all."""
    words = row["input"].split()
    target, *_ = answers = [row[key].split() for key in ANSWERS]
    differing = [index for index, tags in enumerate(zip(words, *answers, strict=False)) if len(set(tags[1:])) > 1]
    cells: list[Cell] = []
    for tags in answers:
        lines = [
            Toned(f"{words[index]} {tags[index]}", "" if tags[index] == target[index] else "bad") for index in differing
        ]
        cells.append(Lines(lines))
    return cells


def build_samples(details: Json) -> Table:
    """Return some test rows with the answer of each model."""
    models = [model for model in ("champion", "challenger") if details.get(model)]
    columns = [prose("Input"), prose("Target"), *(prose(model.capitalize()) for model in models)]
    rows = [
        [show_data(row.get(name, "")) for name in ("input", "target", *models)] for row in details.get("samples") or ()
    ]
    return Table(columns, rows)


def build_gallery(details: Json) -> Gallery | None:
    """Return what the models drew beside the true pictures; None where the objective draws none."""
    rows = details.get("gallery")
    if not rows:
        return None
    names = [name for name in DRAWN if name in rows[0]]
    return Gallery(names, [Tile([show_data(row[name]) for name in names], row["caption"]) for row in rows])
