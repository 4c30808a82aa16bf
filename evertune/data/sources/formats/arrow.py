"""Rows of Arrow batches: Parquet files, Delta tables and `datasets`, whose class numbers become their names."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evertune.data.sources.chunk import Layout, Raw
from evertune.data.sources.columns import arrow_roles
from evertune.data.sources.formats.text_file import File
from evertune.data.sources.tables import CHUNK
from evertune.errors import DataError
from evertune.runtime.threads import mapped

if TYPE_CHECKING:
    import pyarrow as pa

PART = 50_000  # rows that are read at once


def names(file: File) -> list[str]:
    """The columns of a Parquet file.

    Raises:
        DataError: it cannot be read as Parquet.
    """
    return list(_open(file).schema_arrow.names)


def types(file: File) -> "dict[str, pa.DataType]":
    """The types of a Parquet file's columns as `rows` gives them: class numbers are names by then.

    Raises:
        DataError: it cannot be read as Parquet.
    """
    import pyarrow as pa

    schema = _open(file).schema_arrow
    classes = class_names(schema)
    named = {field.name: pa.list_(pa.string()) if pa.types.is_nested(field.type) else pa.string() for field in schema}
    return {field.name: named[field.name] if field.name in classes else field.type for field in schema}


def rows(file: File, columns: Sequence[str]) -> Iterator[Raw]:
    """The cells of the named columns of a Parquet file.

    Raises:
        DataError: it cannot be read as Parquet.
    """
    import pyarrow as pa

    parquet = _open(file)
    batches = parquet.iter_batches(CHUNK, columns=list(set(columns)))
    try:
        yield from batch_rows(batches, columns, parquet.schema_arrow)
    except (pa.ArrowException, OSError) as error:
        raise _broken(file, error) from error


def tables(file: File, columns: Sequence[str], wanted: Layout) -> "Iterator[pa.Table]":
    """The same rows as tables of roles, in parts.

    Args:
        columns: of the roles, in the layout's order.
    Raises:
        DataError: it cannot be read as Parquet.
    """
    import pyarrow as pa

    parquet = _open(file)
    batches = (  # a group at a time: it would hold on to those that it has read
        batch
        for group in range(parquet.num_row_groups)
        for batch in parquet.iter_batches(PART, row_groups=[group], columns=list(set(columns)))
    )
    try:
        yield from batch_tables(batches, columns, parquet.schema_arrow, wanted)
    except (pa.ArrowException, OSError) as error:
        raise _broken(file, error) from error


def batch_tables(
    batches: "Iterable[pa.RecordBatch | pa.Table]", columns: Sequence[str], schema: "pa.Schema", wanted: Layout
) -> "Iterator[pa.Table]":
    """The named columns as tables of roles; at least one table.

    Args:
        schema: of the whole table; its metadata may carry the class names of `datasets`.
    """
    classes = class_names(schema)

    def made(numbered: "tuple[int, pa.RecordBatch | pa.Table]") -> "pa.Table":
        start, batch = numbered
        arrays = [_array(batch[column], classes.get(column)) for column in columns]
        return arrow_roles(arrays, range(start, start + len(batch)), wanted)

    yield made((0, schema.empty_table()))
    yield from mapped(made, _numbered(batches))


def _numbered(batches: "Iterable[pa.RecordBatch | pa.Table]") -> "Iterator[tuple[int, pa.RecordBatch | pa.Table]]":
    start = 0
    for batch in batches:
        yield start, batch
        start += len(batch)


def _array(column: Any, classes: Sequence[str] | None) -> "pa.Array":
    """A column in one piece, with names for class numbers."""
    import pyarrow as pa

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    whole = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    return whole if classes is None else pa.array(_named(whole.to_pylist(), classes))


def batch_rows(
    batches: "Iterable[pa.RecordBatch | pa.Table]", columns: Sequence[str], schema: "pa.Schema"
) -> Iterator[Raw]:
    """The cells of the named columns, row by row.

    Args:
        schema: of the whole table; its metadata may carry the class names of `datasets`.
    """
    classes = class_names(schema)
    for batch in batches:
        lists = [_named(batch[column].to_pylist(), classes.get(column)) for column in columns]
        for cells in zip(*lists, strict=True):
            yield Raw(cells)


def class_names(schema: "pa.Schema") -> dict[str, list[str]]:
    """Column -> names of its classes, for `ClassLabel` columns that `datasets` wrote, lists of them included."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(metadata)["info"]["features"] if metadata else {}
    found = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            found[column] = inner["names"]
    return found


def _named(cells: list[Any], classes: Sequence[str] | None) -> list[Any]:
    return cells if classes is None else [_class(cell, classes) for cell in cells]


def _class(cell: Any, classes: Sequence[str]) -> Any:
    if isinstance(cell, list):
        return [_class(one, classes) for one in cell]
    if cell is None or cell == -1:  # what `datasets` writes where the label is unknown
        return None
    return classes[cell] if isinstance(cell, int) and 0 <= cell < len(classes) else cell


def _open(file: File) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file.path)
    except (pa.ArrowException, OSError) as error:
        raise _broken(file, error) from error


def _broken(file: File, error: Exception) -> DataError:
    said = " ".join(str(error).replace(str(file.path), file.name).split())
    return DataError(f"{file.name}: cannot be read as Parquet ({said}); write the file again")
