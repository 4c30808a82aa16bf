"""Rows of Arrow batches: Parquet files, Delta tables and `datasets`, whose class numbers become their names."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evertune.data.sources.chunk import Layout, RawRow
from evertune.data.sources.columns import convert_columns
from evertune.data.sources.formats.text_file import SourceFile
from evertune.data.sources.tables import CHUNK
from evertune.errors import DataError
from evertune.runtime.threads import map_in_threads

if TYPE_CHECKING:
    import pyarrow as pa

PART = 50_000  # rows that are read at once


def names(file: SourceFile) -> list[str]:
    """The columns of a Parquet file.

    Raises:
        DataError: it cannot be read as Parquet.
    """
    return list(_open_parquet(file).schema_arrow.names)


def read_column_types(file: SourceFile) -> "dict[str, pa.DataType]":
    """The types of a Parquet file's columns as `rows` gives them: class numbers are names by then.

    Raises:
        DataError: it cannot be read as Parquet.
    """
    import pyarrow as pa

    schema = _open_parquet(file).schema_arrow
    classes = read_class_names(schema)
    name_types = {
        field.name: pa.list_(pa.string()) if pa.types.is_nested(field.type) else pa.string() for field in schema
    }
    return {field.name: name_types[field.name] if field.name in classes else field.type for field in schema}


def rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """The cells of the named columns of a Parquet file.

    Raises:
        DataError: it cannot be read as Parquet.
    """
    import pyarrow as pa

    parquet_file = _open_parquet(file)
    batches = parquet_file.iter_batches(CHUNK, columns=list(set(columns)))
    try:
        yield from read_batch_rows(batches, columns, parquet_file.schema_arrow)
    except (pa.ArrowException, OSError) as error:
        raise _broken_file_error(file, error) from error


def tables(file: SourceFile, columns: Sequence[str], role_layout: Layout) -> "Iterator[pa.Table]":
    """The same rows as tables of roles, in parts.

    Args:
        columns: of the roles, in the layout's order.
    Raises:
        DataError: it cannot be read as Parquet.
    """
    import pyarrow as pa

    parquet_file = _open_parquet(file)
    batches = (  # a group at a time: it would hold on to those that it has read
        batch
        for group in range(parquet_file.num_row_groups)
        for batch in parquet_file.iter_batches(PART, row_groups=[group], columns=list(set(columns)))
    )
    try:
        yield from convert_batches(batches, columns, parquet_file.schema_arrow, role_layout)
    except (pa.ArrowException, OSError) as error:
        raise _broken_file_error(file, error) from error


def convert_batches(
    batches: "Iterable[pa.RecordBatch | pa.Table]", columns: Sequence[str], schema: "pa.Schema", role_layout: Layout
) -> "Iterator[pa.Table]":
    """The named columns as tables of roles; at least one table.

    Args:
        schema: of the whole table; its metadata may carry the class names of `datasets`.
    """
    classes = read_class_names(schema)

    def convert_batch(numbered_batch: "tuple[int, pa.RecordBatch | pa.Table]") -> "pa.Table":
        start, batch = numbered_batch
        arrays = [_combine_column(batch[column], classes.get(column)) for column in columns]
        return convert_columns(arrays, range(start, start + len(batch)), role_layout)

    yield convert_batch((0, schema.empty_table()))
    yield from map_in_threads(convert_batch, _number_batches(batches))


def _number_batches(
    batches: "Iterable[pa.RecordBatch | pa.Table]",
) -> "Iterator[tuple[int, pa.RecordBatch | pa.Table]]":
    start = 0
    for batch in batches:
        yield start, batch
        start += len(batch)


def _combine_column(column: Any, classes: Sequence[str] | None) -> "pa.Array":
    """A column in one piece, with names for class numbers."""
    import pyarrow as pa

    combined = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    combined = combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined
    return combined if classes is None else pa.array(_replace_classes(combined.to_pylist(), classes))


def read_batch_rows(
    batches: "Iterable[pa.RecordBatch | pa.Table]", columns: Sequence[str], schema: "pa.Schema"
) -> Iterator[RawRow]:
    """The cells of the named columns, row by row.

    Args:
        schema: of the whole table; its metadata may carry the class names of `datasets`.
    """
    classes = read_class_names(schema)
    for batch in batches:
        lists = [_replace_classes(batch[column].to_pylist(), classes.get(column)) for column in columns]
        for cells in zip(*lists, strict=True):
            yield RawRow(cells)


def read_class_names(schema: "pa.Schema") -> dict[str, list[str]]:
    """Column -> names of its classes, for `ClassLabel` columns that `datasets` wrote, lists of them included."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(metadata)["info"]["features"] if metadata else {}
    names_by_column = {}
    for column, feature in features.items():
        inner_feature = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner_feature, dict) and inner_feature.get("_type") == "ClassLabel":
            names_by_column[column] = inner_feature["names"]
    return names_by_column


def _replace_classes(cells: list[Any], classes: Sequence[str] | None) -> list[Any]:
    return cells if classes is None else [_replace_class(cell, classes) for cell in cells]


def _replace_class(cell: Any, classes: Sequence[str]) -> Any:
    if isinstance(cell, list):
        return [_replace_class(item, classes) for item in cell]
    if cell is None or cell == -1:  # what `datasets` writes where the label is unknown
        return None
    return classes[cell] if isinstance(cell, int) and 0 <= cell < len(classes) else cell


def _open_parquet(file: SourceFile) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file.path)
    except (pa.ArrowException, OSError) as error:
        raise _broken_file_error(file, error) from error


def _broken_file_error(file: SourceFile, error: Exception) -> DataError:
    reason = " ".join(str(error).replace(str(file.path), file.name).split())
    return DataError(f"{file.name}: cannot be read as Parquet ({reason}); write the file again")
