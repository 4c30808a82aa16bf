"""Delta tables as a source."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evertune.config import DeltaSource, Recipe
from evertune.config.base import expand
from evertune.data.sources.chunk import Layout, Piece, layout, match
from evertune.data.sources.formats.arrow import PART, batch_tables
from evertune.data.sources.redact import hidden, shown
from evertune.data.sources.tables import named
from evertune.errors import DataError
from evertune.records import digest

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable


def fingerprints(source: DeltaSource, recipe: Recipe, cache: dict[str, Any]) -> dict[str, str]:
    """The fingerprint of the fixed version, else of the newest.

    Raises:
        DataError: there is no such table or version.
    """
    table = _open(source, recipe)
    return {_uri(source, table): _fingerprint(source, recipe, table)}


def read(source: DeltaSource, recipe: Recipe, seen: dict[str, str]) -> Iterator[Piece]:
    """The table, unless its fingerprint is in `seen`.

    Raises:
        DataError: there is no such table or version, or it cannot be read, or lacks a column.
    """
    table = _open(source, recipe)
    uri, fingerprint, wanted = _uri(source, table), _fingerprint(source, recipe, table), layout(recipe)
    if seen.get(uri) == fingerprint:
        return
    columns = match(wanted, [field.name for field in table.schema().fields], uri)
    yield Piece(uri, fingerprint, named(_tables(table, columns, wanted, source), uri, source.split))


def _tables(table: "DeltaTable", columns: list[str], wanted: Layout, source: DeltaSource) -> "Iterator[pa.Table]":
    from deltalake.exceptions import DeltaError

    try:
        yield from _parts(table, columns, wanted)
    except (DeltaError, OSError, ValueError, KeyError) as error:
        raise _unreadable(source, error) from error


def _parts(table: "DeltaTable", columns: list[str], wanted: Layout) -> "Iterator[pa.Table]":
    from deltalake.exceptions import DeltaProtocolError

    try:
        data = table.to_pyarrow_dataset()
    except DeltaProtocolError:  # deletion vectors, say: the query engine knows them, the plain reader does not
        reader = _queried(table, columns)
        return batch_tables(reader, columns, reader.schema, wanted)
    return batch_tables(data.to_batches(list(set(columns)), batch_size=PART), columns, data.schema, wanted)


def _queried(table: "DeltaTable", columns: list[str]) -> "pa.RecordBatchReader":
    import pyarrow as pa
    from deltalake import QueryBuilder

    chosen = ", ".join('"{}"'.format(column.replace('"', '""')) for column in set(columns))
    result = QueryBuilder().register("rows", table).execute(f"SELECT {chosen} FROM rows")
    return pa.RecordBatchReader.from_stream(result)


def _uri(source: DeltaSource, table: "DeltaTable") -> str:
    return f"delta:{shown(source.delta)}@v{table.version()}"


def _fingerprint(source: DeltaSource, recipe: Recipe, table: "DeltaTable") -> str:
    wanted = layout(recipe)
    return digest(table.metadata().id, table.version(), source.split, wanted.columns, wanted.kinds)


def _open(source: DeltaSource, recipe: Recipe) -> "DeltaTable":
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    place = expand(source.delta)
    try:
        return DeltaTable(place if "://" in place else str(recipe.folder / place), version=source.version)
    except (DeltaError, OSError, ValueError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: DeltaSource, error: Exception) -> DataError:
    version = "" if source.version is None else f" at version {source.version}"
    return DataError(
        f"{shown(source.delta)}: cannot be read as a Delta table{version} ({hidden(str(error), source.delta)}); "
        "check the folder (it starts from the recipe's folder), the version and the rights"
    )
