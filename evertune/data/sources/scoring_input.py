"""A file to score: its input column as the model takes it, and its own columns, to be handed on."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import PathSource, Recipe
from evertune.data.row_versions import to_arrow_type
from evertune.data.sources.chunk import Layout, RawRow, match_columns
from evertune.data.sources.files import FORMATS, find_single_file
from evertune.data.sources.formats import arrow as arrow_format
from evertune.data.sources.formats import cells
from evertune.data.sources.formats.text_file import SourceFile
from evertune.data.sources.tables import CHUNK, get_converter
from evertune.objectives import load_objective
from evertune.records import Inputs

if TYPE_CHECKING:
    import pyarrow as pa


def read_inputs(path: str | Path, recipe: Recipe, encoding: str | None = None) -> Iterator[Inputs]:
    """The rows of a file of any size, at most 10,000 at a time; a row that cannot be read has a problem.

    Columns of Parquet keep their types, all others come as text; those of JSON Lines are the keys of its first 10,000
    objects.

    Args:
        path: relative to the working folder.
        encoding: of a text file. Default: that of the recipe's first file source, else UTF-8.
    Raises:
        DataError: the file is missing, no such format, or lacks the input column.
    """
    file_source = next(
        (source for source in recipe.data.sources if isinstance(source, PathSource)), PathSource(path="")
    )
    file = replace(find_single_file(path), encoding=encoding or file_source.encoding, delimiter=file_source.delimiter)
    objective = load_objective(recipe.objective.type)
    reader = FORMATS[file.format]
    kinds = {recipe.column(role): objective.COLUMNS[role] for role in objective.INPUTS}
    names = reader.names(file)
    role_layout = Layout({role: recipe.column(role) for role in objective.INPUTS}, dict.fromkeys(objective.INPUTS, ""))
    match_columns(role_layout, names, file.name)
    schema = _build_schema(file, list(dict.fromkeys(names)), kinds)
    raw_rows = iter(reader.rows(file, schema.names))
    start = 0
    while (chunk := list(itertools.islice(raw_rows, CHUNK))) or start == 0:
        yield _build_inputs(chunk, start, schema, kinds, file.path.parent)
        start += len(chunk)
        if len(chunk) < CHUNK:
            return


def _build_schema(file: SourceFile, names: Sequence[str], kinds: dict[str, str]) -> "pa.Schema":
    """The file's own columns and what they become; the input columns become what the model takes.

    Args:
        kinds: of the input columns, by name.
    """
    import pyarrow as pa

    plain_type = pa.list_(pa.string()) if file.format == "conll" else pa.string()
    parquet_types = arrow_format.read_column_types(file) if file.format == "parquet" else {}
    return pa.schema(
        [(name, to_arrow_type(kinds[name]) if name in kinds else parquet_types.get(name, plain_type)) for name in names]
    )


def _build_inputs(
    chunk: Sequence[RawRow], start: int, schema: "pa.Schema", kinds: dict[str, str], folder: Path
) -> Inputs:
    import pyarrow as pa

    column_indices = {name: schema.names.index(name) for name in kinds}
    width = len(schema)
    values: list[Any] = []
    problems: list[str | None] = []
    rows: list[list[Any]] = []
    for number, raw in enumerate(chunk, start):
        row = list(raw.cells) if raw.cells is not None else [None] * width
        problem = raw.problem
        for name, index in column_indices.items():
            row[index], cell_problem = (
                _convert_cell(row[index], kinds[name], number, name, folder) if problem is None else (None, None)
            )
            problem = problem or cell_problem
        input_cells = tuple(row[index] for index in column_indices.values())
        values.append(None if problem else input_cells[0] if len(input_cells) == 1 else input_cells)
        problems.append(problem)
        rows.append(row)
    columns = zip(*rows, strict=True) if rows else [()] * width
    arrays = [_build_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return Inputs(values, problems, pa.Table.from_arrays(arrays, schema=schema))


def _convert_cell(cell: Any, kind: str, row_number: int, column_name: str, folder: Path) -> tuple[Any, str | None]:
    try:
        return get_converter(kind, folder)(cell), None
    except ValueError as error:
        return None, f"row {row_number}, column {column_name}: {error}"


def _build_array(column: Sequence[Any], data_type: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    return pa.array([_to_text(cell) for cell in column] if data_type == pa.string() else column, data_type)


def _to_text(cell: Any) -> str | None:
    """Any cell as text: lists and objects as JSON."""
    try:
        return cells.parse_text(cell)
    except ValueError:
        return json.dumps(cell, ensure_ascii=False, default=str)
