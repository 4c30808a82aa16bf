"""Delta tables as a source."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evertune.config import DeltaSource, Recipe
from evertune.config.base import expand_variables
from evertune.data.sources.chunk import Layout, Piece, build_layout, match_columns
from evertune.data.sources.formats.arrow import PART, convert_batches
from evertune.data.sources.redact import redact_message, redact_url
from evertune.data.sources.tables import add_source_columns
from evertune.errors import DataError
from evertune.records import compute_digest

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable


def fingerprints(source: DeltaSource, recipe: Recipe, cache: dict[str, Any]) -> dict[str, str]:
    """The fingerprint of the fixed version, else of the newest.

    Raises:
        DataError: there is no such table or version.
    """
    table = _open_table(source, recipe)
    return {_build_uri(source, table): _fingerprint_table(source, recipe, table)}


def read(source: DeltaSource, recipe: Recipe, seen: dict[str, str]) -> Iterator[Piece]:
    """The table, unless its fingerprint is in `seen`.

    Raises:
        DataError: there is no such table or version, or it cannot be read, or lacks a column.
    """
    table = _open_table(source, recipe)
    uri = _build_uri(source, table)
    fingerprint = _fingerprint_table(source, recipe, table)
    role_layout = build_layout(recipe)
    if seen.get(uri) == fingerprint:
        return
    columns = match_columns(role_layout, [field.name for field in table.schema().fields], uri)
    yield Piece(
        uri, fingerprint, add_source_columns(_read_tables(table, columns, role_layout, source), uri, source.split)
    )


def _read_tables(
    table: "DeltaTable", columns: list[str], role_layout: Layout, source: DeltaSource
) -> "Iterator[pa.Table]":
    from deltalake.exceptions import DeltaError

    try:
        yield from _read_chunks(table, columns, role_layout)
    except (DeltaError, OSError, ValueError, KeyError) as error:
        raise _unreadable_error(source, error) from error


def _read_chunks(table: "DeltaTable", columns: list[str], role_layout: Layout) -> "Iterator[pa.Table]":
    from deltalake.exceptions import DeltaProtocolError

    try:
        dataset = table.to_pyarrow_dataset()
    except DeltaProtocolError:  # deletion vectors, say: the query engine knows them, the plain reader does not
        reader = _query_columns(table, columns)
        return convert_batches(reader, columns, reader.schema, role_layout)
    return convert_batches(
        dataset.to_batches(list(set(columns)), batch_size=PART), columns, dataset.schema, role_layout
    )


def _query_columns(table: "DeltaTable", columns: list[str]) -> "pa.RecordBatchReader":
    import pyarrow as pa
    from deltalake import QueryBuilder

    column_list = ", ".join('"{}"'.format(column.replace('"', '""')) for column in set(columns))
    result = QueryBuilder().register("rows", table).execute(f"SELECT {column_list} FROM rows")
    return pa.RecordBatchReader.from_stream(result)


def _build_uri(source: DeltaSource, table: "DeltaTable") -> str:
    return f"delta:{redact_url(source.delta)}@v{table.version()}"


def _fingerprint_table(source: DeltaSource, recipe: Recipe, table: "DeltaTable") -> str:
    role_layout = build_layout(recipe)
    return compute_digest(table.metadata().id, table.version(), source.split, role_layout.columns, role_layout.kinds)


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
        "check the folder (it starts from the recipe's folder), the version and the rights"
    )
