"""Read a file to score: the model's inputs, and all of the file's columns for the output."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evertune.config import PathSource, Recipe
from evertune.data.row_versions import to_arrow_type
from evertune.data.sources.chunk import Layout, RawRow, match_columns
from evertune.data.sources.files import FORMATS, find_single_file
from evertune.data.sources.formats import arrow as arrow_format
from evertune.data.sources.formats import cells
from evertune.data.sources.formats.text_file import SourceFile
from evertune.data.sources.tables import chunk_rows, get_converter
from evertune.objectives import Cell, Input, load_objective
from evertune.records import Inputs

if TYPE_CHECKING:
    import pyarrow as pa


def read_inputs(path: str | Path, recipe: Recipe, encoding: str | None = None) -> Iterator[Inputs]:
    """Yield the rows of a file of any size, at most 10,000 at a time; a row that cannot be read has a problem.

    Parquet columns keep their types, all others become text. The columns of a JSON Lines file are the keys of its first
    10,000 objects.

    Args:
        path: relative to the working folder.
        encoding: encoding of a text file. Default: that of the recipe's first file source, else UTF-8.
    Raises:
        DataError: the file does not exist, has an unknown extension, or lacks an input column.
    """
    file_sources = (source for source in recipe.data.sources if isinstance(source, PathSource))
    file_source = next(file_sources, PathSource(path=""))
    file = replace(find_single_file(path), encoding=encoding or file_source.encoding, delimiter=file_source.delimiter)
    objective = load_objective(recipe.objective.type)
    reader = FORMATS[file.format]
    kinds = {recipe.column(role): objective.COLUMNS[role] for role in objective.INPUTS}
    names = reader.read_column_names(file)
    layout = Layout({role: recipe.column(role) for role in objective.INPUTS}, dict.fromkeys(objective.INPUTS, ""))
    match_columns(layout, names, file.name)
    schema = _build_schema(file, list(dict.fromkeys(names)), kinds)
    for start, chunk in chunk_rows(reader.read_rows(file, schema.names)):
        yield _build_inputs(chunk, start, schema, kinds, file.path.parent)


def _build_schema(file: SourceFile, names: Sequence[str], kinds: dict[str, str]) -> "pa.Schema":
    """Return the schema of the file's columns; the input columns have the types that the model takes.

    Args:
        kinds: input column -> its kind.
    """
    import pyarrow as pa

    plain_type = pa.list_(pa.string()) if file.format == "conll" else pa.string()
    parquet_types = arrow_format.read_column_types(file) if file.format == "parquet" else {}
    input_types = {name: to_arrow_type(kind) for name, kind in kinds.items()}
    types = parquet_types | input_types
    return pa.schema([(name, types.get(name, plain_type)) for name in names])


def _build_inputs(
    chunk: Sequence[RawRow], start: int, schema: "pa.Schema", kinds: dict[str, str], folder: Path
) -> Inputs:
    import pyarrow as pa

    column_indices = {name: schema.names.index(name) for name in kinds}
    width = len(schema)
    values: list[Input | None] = []
    problems: list[str | None] = []
    rows: list[list[object]] = []
    for row_number, raw in enumerate(chunk, start):
        row: list[object] = list(raw.cells) if raw.cells is not None else [None] * width
        problem = raw.problem
        for name, index in column_indices.items():
            if problem is None:
                row[index], problem = _convert_cell(row[index], kinds[name], row_number, name, folder)
            else:
                row[index] = None
        values.append(_pick_input(row, list(column_indices.values())) if problem is None else None)
        problems.append(problem)
        rows.append(row)
    columns = zip(*rows, strict=True) if rows else [()] * width
    arrays = [_build_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return Inputs(values, problems, pa.Table.from_arrays(arrays, schema=schema))


def _pick_input(row: Sequence[object], input_indices: Sequence[int]) -> Input:
    """Return what the model takes: the cell of its only input column, or a tuple of several."""
    if len(input_indices) == 1:
        return cast(Cell, row[input_indices[0]])
    return tuple(cast(Cell, row[index]) for index in input_indices)


def _convert_cell(
    cell: object, kind: str, row_number: int, column_name: str, folder: Path
) -> tuple[object, str | None]:
    try:
        return get_converter(kind, folder)(cell), None
    except ValueError as error:
        return None, f"row {row_number}, column {column_name}: {error}"


def _build_array(column: Sequence[object], data_type: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if data_type == pa.string():
        return pa.array([_to_text(cell) for cell in column], data_type)
    return pa.array(column, data_type)


def _to_text(cell: object) -> str | None:
    """Return any cell as text, lists and objects as JSON."""
    try:
        return cells.parse_text(cell)
    except ValueError:
        return json.dumps(cell, ensure_ascii=False, default=str)
