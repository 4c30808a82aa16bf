"""What a source gives: pieces of rows, and the layout that their columns get."""

import difflib
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evertune.config import Recipe
from evertune.errors import DataError
from evertune.objectives import ROLES, load_objective

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Piece:
    """Rows that came together: a file, a week, the result of a query.

    Args:
        uri: its name, as a user would write it; never with a secret.
        fingerprint: digest of content and of how it is read; equal fingerprint, equal rows.
        tables: its rows in parts, to be read once: roles as column names, beside them `source`, `source_row` (0-based),
            `given_split`, and of a row that cannot be read `problem` and `problem_digest` (of what stands there); null
            where a row is fine.
    """

    uri: str
    fingerprint: str
    tables: "Iterable[pa.Table]"

    @functools.cached_property
    def table(self) -> "pa.Table":
        """All rows at once."""
        import pyarrow as pa

        return pa.concat_tables(self.tables)


class RawRow(NamedTuple):
    """One row as its format has it.

    Args:
        cells: one for each column that was asked for; None where they cannot be told apart.
        problem: why the row cannot be read, with its line.
        given: what stands there, where there is a problem: the same again is the same row, wherever it stands.
    """

    cells: Sequence[Any] | None
    problem: str | None = None
    given: str = ""


@dataclass(frozen=True)
class Layout:
    """Which columns become which roles.

    Args:
        columns: role -> column of the source.
        kinds: role -> an objective's kind or `timestamp`, in the order of `columns`.
        folder: where files lie that cells name.
    """

    columns: dict[str, str]
    kinds: dict[str, str]
    folder: Path | None = None


def build_layout(recipe: Recipe) -> Layout:
    """The roles that a recipe reads: its objective's, and those of `id`, `timestamp` and `group` that it maps."""
    kinds = dict(load_objective(recipe.objective.type).COLUMNS)
    for role in ROLES:
        if role in recipe.data.columns:
            kinds[role] = "timestamp" if role == "timestamp" else "string"
    return Layout({role: recipe.column(role) for role in kinds}, kinds)


def match_columns(role_layout: Layout, available: Sequence[str], name: str) -> list[str]:
    """The column of each role, in the layout's order.

    Args:
        available: the columns that the source has.
        name: the source, for messages.
    Raises:
        DataError: columns are missing, or stand twice; it lists those that there are.
    """
    problems = []
    for role, column in role_layout.columns.items():
        if available.count(column) > 1:
            problems.append(f"{role}: the column {column} stands {available.count(column)} times in {name}; rename one")
        elif column not in available:
            problems.append(_describe_missing_column(role, column, available, name))
    if problems:
        raise DataError("\n".join(problems))
    return list(role_layout.columns.values())


def _describe_missing_column(role: str, column: str, available: Sequence[str], name: str) -> str:
    by_lowercase = {candidate.lower(): candidate for candidate in reversed(available)}
    close_matches = difflib.get_close_matches(column.lower(), list(by_lowercase), 1, 0.5)
    hint = f"did you mean {by_lowercase[close_matches[0]]}? " if close_matches else ""
    available_columns = ", ".join(available) or "no columns"
    return (
        f"{column}: no such column in {name}; it has {available_columns}; {hint}name the right one in "
        f"data.columns.{role}"
    )
