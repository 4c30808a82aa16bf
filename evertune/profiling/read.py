"""Reads rows of unknown kind: every file of a path in its likely encoding, with what a person should know of them."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evertune.config import PathSource
from evertune.data.sources.chunk import Layout, match_columns
from evertune.data.sources.files import FORMATS, find_files
from evertune.data.sources.formats import csv as csv_rows
from evertune.data.sources.formats.text_file import SourceFile, guess_encoding
from evertune.errors import DataError

LIMIT = 200_000  # rows that are looked at
SHOWN = 3


@dataclass(frozen=True)
class Table:
    """What was read.

    Args:
        columns: those of the first file, with their cells through all files.
        unreadable: rows that could not be read.
        encoding: the one that a recipe should name.
        notes: what a person should know of the files.
    """

    name: str
    files: list[SourceFile]
    columns: dict[str, list[Any]]
    unreadable: int
    encoding: str
    notes: tuple[str, ...]


def read_files(path: Path, *, plain: bool = False) -> Table:
    """The rows of a file, a folder or a glob.

    Args:
        plain: whether `.txt` is plain text, and not words with their tags.
    Raises:
        DataError: there are none, or most of them cannot be read.
    """
    source = PathSource(path=str(path), format="text" if plain and path.suffix == ".txt" else "auto")
    files, encoding, notes = _guess_encodings(find_files(source, Path.cwd()))
    names = list(dict.fromkeys(FORMATS[files[0].format].read_column_names(files[0])))
    rows = list(itertools.islice(_iterate_rows(files, names), LIMIT + 1))
    cells = [row for row in rows[:LIMIT] if not isinstance(row, str)]
    problems = [row for row in rows[:LIMIT] if isinstance(row, str)]
    if len(problems) > len(cells):
        raise DataError(f"{len(problems):,} of {len(problems) + len(cells):,} rows cannot be read; {problems[0]}")
    if not cells:
        raise DataError(f"{path}: there are no rows in it; a recipe is inferred from rows")
    notes += [f"cannot be read and will be refused: {problem}" for problem in problems[:SHOWN]]
    notes += [f"and {len(problems) - SHOWN:,} more rows that cannot be read"] if len(problems) > SHOWN else []
    notes += [f"only the first {LIMIT:,} rows were looked at"] if len(rows) > LIMIT else []
    columns = {name: [row[index] for row in cells] for index, name in enumerate(names)}
    return Table(str(path), files, columns, len(problems), encoding, (*notes, *_note_delimiters(files)))


def check_columns(rows: Table, columns: dict[str, str]) -> None:
    """Every file has the columns that were picked.

    Raises:
        DataError: one lacks a column.
    """
    for file in rows.files:
        try:
            match_columns(Layout(columns, {}), FORMATS[file.format].read_column_names(file), file.name)
        except DataError as error:
            raise DataError(
                f"{error}\nIs {file.name} no data? Then give --data a pattern that leaves it out"
            ) from error


def _iterate_rows(files: list[SourceFile], names: list[str]) -> Iterator[Sequence[Any] | str]:
    """The cells of the first file's columns, through all files, or what is wrong with a row."""
    for file in files:
        reader = FORMATS[file.format]
        own_names = list(dict.fromkeys(reader.read_column_names(file)))
        for raw in reader.read_rows(file, own_names):
            if raw.problem is not None or raw.cells is None:
                yield f"{file.name}, {raw.problem}"
            else:
                cells = dict(zip(own_names, raw.cells, strict=True))
                yield [cells.get(name) for name in names]


def _guess_encodings(files: list[SourceFile]) -> tuple[list[SourceFile], str, list[str]]:
    """The files, each with its likely encoding; the one that most of them have; and a note where they differ."""
    guesses = {file.name: guess_encoding(file.path) for file in files if file.format != "parquet"}
    common = Counter(guess for guess in guesses.values() if guess != "ascii").most_common(1)
    encoding = common[0][0] if common else "utf-8"
    encodings = {name: encoding if guess == "ascii" else guess for name, guess in guesses.items()}
    differing = {name: guess for name, guess in encodings.items() if guess != encoding}
    notes = [
        f"{name} is {guess}, other files are {encoding}: before this source, give it one of its own, "
        f"`{{path: {name}, encoding: {guess}}}`, or save all files as UTF-8"
        for name, guess in differing.items()
    ]
    if encoding != "utf-8":
        notes.append(f"the files are not UTF-8; {encoding} is a guess: look at accented letters with `evertune check`")
    return [replace(file, encoding=encodings.get(file.name, encoding)) for file in files], encoding, notes


def _note_delimiters(files: list[SourceFile]) -> list[str]:
    signs = {file.name: csv_rows.detect_delimiter(file) for file in files if file.format == "csv"}
    return [f"{name}: cells are separated by {sign!r}, as its header is" for name, sign in signs.items() if sign != ","]
