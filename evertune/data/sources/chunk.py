"""What a source yields: pieces of rows, and how their columns map to roles."""

import difflib
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evertune.config import Recipe
from evertune.errors import DataError
from evertune.objectives import ROLES, load_objective

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Piece:
    """Rows that belong together: a file, a week, the result of a query.

    Args:
        uri: its name as a user would write it, without secrets.
        fingerprint: digest of the content and of how it is read; pieces with equal fingerprints have equal rows.
        tables: its rows in chunks, readable once. Columns are the roles, `source`, `source_row` (0-based),
            `given_split`, and for a row that cannot be read `problem` and `problem_digest` (of the raw row), else null.
    """

    uri: str
    fingerprint: str
    tables: "Iterable[pa.Table]"

    @functools.cached_property
    def table(self) -> "pa.Table":
        """All rows in one table."""
        import pyarrow as pa

        return pa.concat_tables(self.tables)


class RawRow(NamedTuple):
    """One row as read from its format, before its cells are converted.

    Args:
        cells: one cell per requested column; None where the row cannot be split into cells.
        problem: why the row cannot be read, with its line number.
        raw_text: the text of a row with a problem, by which the same broken row is recognised wherever it moves.
    """

    cells: Sequence[object] | None
    problem: str | None = None
    raw_text: str = ""


@dataclass(frozen=True)
class Layout:
    """Which source columns become which roles.

    Args:
        columns: role -> column of the source.
        kinds: role -> an objective's kind or `timestamp`, in the order of `columns`.
        folder: folder of the files that cells may name.
    """

    columns: dict[str, str]
    kinds: dict[str, str]
    folder: Path | None = None


def build_layout(recipe: Recipe) -> Layout:
    """Return the layout of a recipe: its objective's roles, and `id`, `timestamp` and `group` where it maps them."""
    kinds = dict(load_objective(recipe.objective.type).COLUMNS)
    for role in ROLES:
        if role in recipe.data.columns:
            kinds[role] = "timestamp" if role == "timestamp" else "string"
    return Layout({role: recipe.column(role) for role in kinds}, kinds)


def match_columns(layout: Layout, available: Sequence[str], name: str) -> list[str]:
    """Return the column of each role, in the layout's order.

    Args:
        available: the columns of the source.
        name: name of the source in messages.
    Raises:
        DataError: a column is missing or ambiguous; the message lists the available ones.
    """
    problems = []
    for role, column in layout.columns.items():
        count = available.count(column)
        if count > 1:
            problems.append(f"{role}: {name} has {count} columns named {column}; rename all but one")
        elif column not in available:
            problems.append(_describe_missing_column(role, column, available, name))
    if problems:
        raise DataError("\n".join(problems))
    return list(layout.columns.values())


def _describe_missing_column(role: str, column: str, available: Sequence[str], name: str) -> str:
    by_lowercase = {candidate.lower(): candidate for candidate in reversed(available)}
    close_matches = difflib.get_close_matches(column.lower(), list(by_lowercase), 1, 0.5)
    hint = f"did you mean {by_lowercase[close_matches[0]]}? " if close_matches else ""
    available_columns = ", ".join(available) or "no columns"
    return (
        f"{column}: no such column in {name}; it has {available_columns}; {hint}name the right one in "
        f"data.columns.{role}"
    )
