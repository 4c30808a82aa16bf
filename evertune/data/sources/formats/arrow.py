"""Read rows from Arrow batches: Parquet files, Delta tables and `datasets`, whose class numbers become names."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from evertune.data.sources.chunk import Layout, RawRow
from evertune.data.sources.columns import convert_columns
from evertune.data.sources.formats.text_file import SourceFile
from evertune.data.sources.tables import CHUNK
from evertune.errors import DataError
from evertune.runtime.threads import map_in_threads

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PART = 50_000  # rows per batch


def read_column_names(file: SourceFile) -> list[str]:
    """Return the column names of a Parquet file.

    Raises:
        DataError: the file cannot be read as Parquet.
    """
    return list(_open_parquet(file).schema_arrow.names)


def read_column_types(file: SourceFile) -> "dict[str, pa.DataType]":
    """Return the types of a Parquet file's columns as `read_rows` yields them: class names instead of numbers.

    Raises:
        DataError: the file cannot be read as Parquet.
    """
    import pyarrow as pa

    schema = _open_parquet(file).schema_arrow
    classes = read_class_names(schema)
    types = {}
    for field in schema:
        if field.name not in classes:
            types[field.name] = field.type
        elif pa.types.is_nested(field.type):
            types[field.name] = pa.list_(pa.string())
        else:
            types[field.name] = pa.string()
    return types


def read_rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """Yield the cells of the named columns of a Parquet file, row by row.

    Raises:
        DataError: the file cannot be read as Parquet.
    """
    import pyarrow as pa

    parquet_file = _open_parquet(file)
    batches = parquet_file.iter_batches(CHUNK, columns=list(set(columns)))
    try:
        yield from read_batch_rows(batches, columns, parquet_file.schema_arrow)
    except (pa.ArrowException, OSError) as error:
        raise _broken_file_error(file, error) from error


def read_tables(file: SourceFile, columns: Sequence[str], layout: Layout) -> "Iterator[pa.Table]":
    """Yield the same rows as tables of roles, batch by batch.

    Args:
        columns: the column of each role, in the layout's order.
    Raises:
        DataError: the file cannot be read as Parquet.
    """
    import pyarrow as pa

    parquet_file = _open_parquet(file)
    batches = (  # one row group at a time, else pyarrow keeps the groups that it has read in memory
        batch
        for group in range(parquet_file.num_row_groups)
        for batch in parquet_file.iter_batches(PART, row_groups=[group], columns=list(set(columns)))
    )
    try:
        yield from convert_batches(batches, columns, parquet_file.schema_arrow, layout)
    except (pa.ArrowException, OSError) as error:
        raise _broken_file_error(file, error) from error


def convert_batches(
    batches: "Iterable[pa.RecordBatch | pa.Table]", columns: Sequence[str], schema: "pa.Schema", layout: Layout
) -> "Iterator[pa.Table]":
    """Yield the named columns as tables of roles; at least one table.

    Args:
        columns: the column of each role, in the layout's order.
        schema: schema of the whole table; its metadata may carry the class names of `datasets`.
    """
    classes = read_class_names(schema)

    def convert_batch(numbered_batch: "tuple[int, pa.RecordBatch | pa.Table]") -> "pa.Table":
        start, batch = numbered_batch
        arrays = [_combine_column(batch[column], classes.get(column)) for column in columns]
        return convert_columns(arrays, range(start, start + len(batch)), layout)

    yield convert_batch((0, schema.empty_table()))
    yield from map_in_threads(convert_batch, _number_batches(batches))


def _number_batches(
    batches: "Iterable[pa.RecordBatch | pa.Table]",
) -> "Iterator[tuple[int, pa.RecordBatch | pa.Table]]":
    start = 0
    for batch in batches:
        yield start, batch
        start += len(batch)


def _combine_column(column: "pa.Array | pa.ChunkedArray", classes: Sequence[str] | None) -> "pa.Array":
    """Return a column as one array, with class names instead of numbers."""
    import pyarrow as pa

    combined = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return combined if classes is None else pa.array(_replace_classes(combined.to_pylist(), classes))


def read_batch_rows(
    batches: "Iterable[pa.RecordBatch | pa.Table]", columns: Sequence[str], schema: "pa.Schema"
) -> Iterator[RawRow]:
    """Yield the cells of the named columns, row by row.

    Args:
        schema: schema of the whole table; its metadata may carry the class names of `datasets`.
    """
    classes = read_class_names(schema)
    for batch in batches:
        lists = [_replace_classes(batch[column].to_pylist(), classes.get(column)) for column in columns]
        for cells in zip(*lists, strict=True):
            yield RawRow(cells)


def read_class_names(schema: "pa.Schema") -> dict[str, list[str]]:
    """Return column -> class names for the `ClassLabel` columns that `datasets` wrote, including lists of labels."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(metadata)["info"]["features"] if metadata else {}
    names_by_column = {}
    for column, feature in features.items():
        inner_feature = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner_feature, dict) and inner_feature.get("_type") == "ClassLabel":
            names_by_column[column] = inner_feature["names"]
    return names_by_column


def _replace_classes(cells: list[object], classes: Sequence[str] | None) -> list[object]:
    return cells if classes is None else [_replace_class(cell, classes) for cell in cells]


def _replace_class(cell: object, classes: Sequence[str]) -> object:
    if isinstance(cell, list):
        return [_replace_class(item, classes) for item in cell]
    if cell is None or cell == -1:  # `datasets` writes -1 for an unknown label
        return None
    return classes[cell] if isinstance(cell, int) and 0 <= cell < len(classes) else cell


def _open_parquet(file: SourceFile) -> "pq.ParquetFile":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file.path)
    except (pa.ArrowException, OSError) as error:
        raise _broken_file_error(file, error) from error


def _broken_file_error(file: SourceFile, error: Exception) -> DataError:
    reason = " ".join(str(error).replace(str(file.path), file.name).split())
    return DataError(f"{file.name}: cannot be read as Parquet ({reason}); write the file again")
