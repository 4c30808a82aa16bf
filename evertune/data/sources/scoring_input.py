"""A file to score: its input column as the model takes it, and its own columns, to be handed on."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import PathSource, Recipe
from evertune.data.row_versions import arrow
from evertune.data.sources.chunk import Layout, Raw, match
from evertune.data.sources.files import FORMATS, single_file
from evertune.data.sources.formats import arrow as arrow_rows
from evertune.data.sources.formats import cells
from evertune.data.sources.formats.text_file import File
from evertune.data.sources.tables import CHUNK, converter
from evertune.objectives import module
from evertune.records import Inputs

if TYPE_CHECKING:
    import pyarrow as pa


def inputs(path: str | Path, recipe: Recipe, encoding: str | None = None) -> Iterator[Inputs]:
    """The rows of a file of any size, at most 10,000 at a time; a row that cannot be read has a problem.

    Columns of Parquet keep their types, all others come as text; those of JSON Lines are the keys of its first 10,000
    objects.

    Args:
        path: relative to the working folder.
        encoding: of a text file. Default: that of the recipe's first file source, else UTF-8.
    Raises:
        DataError: the file is missing, no such format, or lacks the input column.
    """
    like = next((source for source in recipe.data.sources if isinstance(source, PathSource)), PathSource(path=""))
    file = replace(single_file(path), encoding=encoding or like.encoding, delimiter=like.delimiter)
    objective, reader = module(recipe.objective.type), FORMATS[file.format]
    kinds = {recipe.column(role): objective.COLUMNS[role] for role in objective.INPUTS}
    names = reader.names(file)
    wanted = Layout({role: recipe.column(role) for role in objective.INPUTS}, dict.fromkeys(objective.INPUTS, ""))
    match(wanted, names, file.name)
    schema = _schema(file, list(dict.fromkeys(names)), kinds)
    rest, start = iter(reader.rows(file, schema.names)), 0
    while (chunk := list(itertools.islice(rest, CHUNK))) or start == 0:
        yield _inputs(chunk, start, schema, kinds, file.path.parent)
        start += len(chunk)
        if len(chunk) < CHUNK:
            return


def _schema(file: File, names: Sequence[str], kinds: dict[str, str]) -> "pa.Schema":
    """The file's own columns and what they become; the input columns become what the model takes.

    Args:
        kinds: of the input columns, by name.
    """
    import pyarrow as pa

    plain = pa.list_(pa.string()) if file.format == "conll" else pa.string()
    types = arrow_rows.types(file) if file.format == "parquet" else {}
    return pa.schema([(name, arrow(kinds[name]) if name in kinds else types.get(name, plain)) for name in names])


def _inputs(chunk: Sequence[Raw], start: int, schema: "pa.Schema", kinds: dict[str, str], folder: Path) -> Inputs:
    import pyarrow as pa

    places, width = {name: schema.names.index(name) for name in kinds}, len(schema)
    values: list[Any] = []
    problems: list[str | None] = []
    rows: list[list[Any]] = []
    for number, raw in enumerate(chunk, start):
        row = list(raw.cells) if raw.cells is not None else [None] * width
        problem = raw.problem
        for name, place in places.items():
            row[place], wrong = (
                _converted(row[place], kinds[name], number, name, folder) if problem is None else (None, None)
            )
            problem = problem or wrong
        given = tuple(row[place] for place in places.values())
        values.append(None if problem else given[0] if len(given) == 1 else given)
        problems.append(problem)
        rows.append(row)
    columns = zip(*rows, strict=True) if rows else [()] * width
    arrays = [_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return Inputs(values, problems, pa.Table.from_arrays(arrays, schema=schema))


def _converted(cell: Any, kind: str, number: int, named: str, folder: Path) -> tuple[Any, str | None]:
    try:
        return converter(kind, folder)(cell), None
    except ValueError as error:
        return None, f"row {number}, column {named}: {error}"


def _array(column: Sequence[Any], type: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    return pa.array([_text(cell) for cell in column] if type == pa.string() else column, type)


def _text(cell: Any) -> str | None:
    """Any cell as text: lists and objects as JSON."""
    try:
        return cells.text(cell)
    except ValueError:
        return json.dumps(cell, ensure_ascii=False, default=str)
