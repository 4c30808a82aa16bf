"""Read rows of unknown kind: every file of a path in its likely encoding, with notes for a person."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evertune.config import PathSource
from evertune.data.sources.chunk import Layout, match_columns
from evertune.data.sources.files import FORMATS, find_files
from evertune.data.sources.formats import csv as csv_rows
from evertune.data.sources.formats.text_file import SourceFile, guess_encoding
from evertune.errors import DataError

LIMIT = 200_000  # rows that are read
SHOWN = 3


@dataclass(frozen=True)
class Table:
    """What was read.

    Args:
        name: the path.
        files: in the order of reading.
        columns: columns of the first file -> cells of all files.
        unreadable: number of rows that could not be read.
        encoding: for the recipe.
        notes: what a person should know about the files.
    """

    name: str
    files: list[SourceFile]
    columns: dict[str, list[object]]
    unreadable: int
    encoding: str
    notes: tuple[str, ...]


def read_files(path: Path, *, plain: bool = False) -> Table:
    """Read the rows of a file, a folder or a glob.

    Args:
        path: relative to the working folder.
        plain: read `.txt` as plain text, not as words with their tags.
    Raises:
        DataError: there are no rows, or most of them cannot be read.
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
        raise DataError(f"{path}: no rows; a recipe is inferred from rows")
    notes += [f"unreadable, will be refused: {problem}" for problem in problems[:SHOWN]]
    notes += [f"and {len(problems) - SHOWN:,} more unreadable rows"] if len(problems) > SHOWN else []
    notes += [f"only the first {LIMIT:,} rows were read"] if len(rows) > LIMIT else []
    columns = {name: [row[index] for row in cells] for index, name in enumerate(names)}
    return Table(str(path), files, columns, len(problems), encoding, (*notes, *_note_delimiters(files)))


def check_columns(rows: Table, columns: dict[str, str]) -> None:
    """Check that every file has the picked columns.

    Raises:
        DataError: a file lacks a column.
    """
    for file in rows.files:
        try:
            match_columns(Layout(columns, {}), FORMATS[file.format].read_column_names(file), file.name)
        except DataError as error:
            raise DataError(
                f"{error}\nIf {file.name} does not belong to the data, give --data a pattern that leaves it out"
            ) from error


def _iterate_rows(files: list[SourceFile], names: list[str]) -> Iterator[Sequence[object] | str]:
    """Yield each row's cells in the first file's columns, or a text on what is wrong with the row."""
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
    """Return the files with their likely encodings, the most common encoding, and notes on files that differ."""
    guesses = {file.name: guess_encoding(file.path) for file in files if file.format != "parquet"}
    common = Counter(guess for guess in guesses.values() if guess != "ascii").most_common(1)
    encoding = common[0][0] if common else "utf-8"
    encodings = {name: encoding if guess == "ascii" else guess for name, guess in guesses.items()}
    differing = {name: guess for name, guess in encodings.items() if guess != encoding}
    notes = [
        f"{name} is {guess}, other files are {encoding}: save all files as UTF-8, or add a source for it before "
        f"this one, `{{path: {name}, encoding: {guess}}}`"
        for name, guess in differing.items()
    ]
    if encoding != "utf-8":
        notes.append(f"the files are not UTF-8; {encoding} is a guess: check accented letters with `evertune check`")
    return [replace(file, encoding=encodings.get(file.name, encoding)) for file in files], encoding, notes


def _note_delimiters(files: list[SourceFile]) -> list[str]:
    delimiters = {file.name: csv_rows.detect_delimiter(file) for file in files if file.format == "csv"}
    return [f"{name}: the delimiter is {delimiter!r}" for name, delimiter in delimiters.items() if delimiter != ","]
