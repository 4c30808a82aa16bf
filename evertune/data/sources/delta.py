"""Delta tables as a source."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evertune.config import DeltaSource, Recipe
from evertune.config.base import expand_variables
from evertune.data.sources.chunk import Layout, Piece, build_layout, match_columns
from evertune.data.sources.content import FileCache
from evertune.data.sources.formats.arrow import PART, convert_batches
from evertune.data.sources.redact import redact_message, redact_url
from evertune.data.sources.tables import add_source_columns
from evertune.errors import DataError
from evertune.records import compute_digest

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable


def fingerprints(source: DeltaSource, recipe: Recipe, cache: FileCache) -> dict[str, str]:
    """Return the fingerprint of the recipe's version of the table, or of the newest one.

    Raises:
        DataError: the table or the version does not exist.
    """
    table = _open_table(source, recipe)
    return {_build_uri(source, table): _fingerprint_table(source, recipe, table)}


def read(source: DeltaSource, recipe: Recipe, seen: dict[str, str]) -> Iterator[Piece]:
    """Yield the table, unless its fingerprint is in `seen`.

    Raises:
        DataError: the table or the version does not exist, cannot be read, or lacks a column.
    """
    table = _open_table(source, recipe)
    uri = _build_uri(source, table)
    fingerprint = _fingerprint_table(source, recipe, table)
    layout = build_layout(recipe)
    if seen.get(uri) == fingerprint:
        return
    columns = match_columns(layout, [field.name for field in table.schema().fields], uri)
    tables = _read_tables(table, columns, layout, source)
    yield Piece(uri, fingerprint, add_source_columns(tables, uri, source.split))


def _read_tables(table: "DeltaTable", columns: list[str], layout: Layout, source: DeltaSource) -> "Iterator[pa.Table]":
    from deltalake.exceptions import DeltaError

    try:
        yield from _read_chunks(table, columns, layout)
    except (DeltaError, OSError, ValueError, KeyError) as error:
        raise _unreadable_error(source, error) from error


def _read_chunks(table: "DeltaTable", columns: list[str], layout: Layout) -> "Iterator[pa.Table]":
    from deltalake.exceptions import DeltaProtocolError

    try:
        dataset = table.to_pyarrow_dataset()
    except DeltaProtocolError:  # for example deletion vectors, which only the query engine supports
        reader = _query_columns(table, columns)
        return convert_batches(reader, columns, reader.schema, layout)
    return convert_batches(dataset.to_batches(list(set(columns)), batch_size=PART), columns, dataset.schema, layout)


def _query_columns(table: "DeltaTable", columns: list[str]) -> "pa.RecordBatchReader":
    import pyarrow as pa
    from deltalake import QueryBuilder

    column_list = ", ".join('"{}"'.format(column.replace('"', '""')) for column in set(columns))
    result = QueryBuilder().register("rows", table).execute(f"SELECT {column_list} FROM rows")
    return pa.RecordBatchReader.from_stream(result)


def _build_uri(source: DeltaSource, table: "DeltaTable") -> str:
    return f"delta:{redact_url(source.delta)}@v{table.version()}"


def _fingerprint_table(source: DeltaSource, recipe: Recipe, table: "DeltaTable") -> str:
    layout = build_layout(recipe)
    return compute_digest(table.metadata().id, table.version(), source.split, layout.columns, layout.kinds)


def _open_table(source: DeltaSource, recipe: Recipe) -> "DeltaTable":
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    table_uri = expand_variables(source.delta)
    try:
        return DeltaTable(table_uri if "://" in table_uri else str(recipe.folder / table_uri), version=source.version)
    except (DeltaError, OSError, ValueError) as error:
        raise _unreadable_error(source, error) from error


def _unreadable_error(source: DeltaSource, error: Exception) -> DataError:
    version = "" if source.version is None else f" at version {source.version}"
    return DataError(
        f"{redact_url(source.delta)}: cannot be read as a Delta table{version} "
        f"({redact_message(str(error), source.delta)}); "
        "check the path (relative to the recipe's folder), the version and the permissions"
    )
