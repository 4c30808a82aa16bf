"""SQL queries as a source, through SQLAlchemy: scanned whole on every run, or from a cursor on."""

import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from evertune.config import Recipe, SqlSource
from evertune.config.base import expand_variables
from evertune.data.sources.chunk import Piece, RawRow, build_layout, match_columns
from evertune.data.sources.content import FileCache
from evertune.data.sources.redact import redact_message, redact_url
from evertune.data.sources.tables import CHUNK, build_whole_table, digest_table
from evertune.errors import ConfigError, DataError
from evertune.records import compute_digest

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import URL, RowMapping, TextClause

BOUND = re.compile(r"(?<![:\w\\]):cursor\b")
PASSWORD = re.compile(r"(?<=:)\$\{[^}]*\}(?=@)")
CURSOR_TYPES: dict[str, Callable[[str], object]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "Decimal": Decimal,
}
CURSOR_EXAMPLE = "`(:cursor IS NULL OR id > :cursor)`"  # a plain comparison with NULL would never match the first row

logger = logging.getLogger(__name__)


class Orderable(Protocol):
    """A value of the cursor's column; its type depends on the database."""

    def __gt__(self, other: object, /) -> bool: ...


def fingerprints(source: SqlSource, recipe: Recipe, cache: FileCache) -> None:
    """Return None: only running a query tells its result."""
    return


def detect_changes(source: SqlSource, recipe: Recipe, seen: dict[str, str]) -> dict[str, str]:
    """Run the query and return `{uri: fingerprint}` of its result, empty if the fingerprint is the one in `seen`.

    Raises:
        ConfigError, DataError: as for `read`.
    """
    return {piece.uri: piece.fingerprint for piece in read(source, recipe, seen)}


def read(source: SqlSource, recipe: Recipe, seen: dict[str, str]) -> Iterator[Piece]:
    """Yield the rows of the query, unless their fingerprint is the one in `seen`.

    With `cursor`, the piece's fingerprint is the largest value of that column as JSON, which the next run passes as
    `:cursor` (NULL at first); a run without new rows yields no piece. Without it, the fingerprint is of all rows.

    Raises:
        ConfigError: the recipe sets `cursor` but the query does not use it, or the reverse.
        DataError: the database cannot be reached, refuses the query, or the result lacks a column.
    """
    if (source.cursor is None) == bool(BOUND.search(source.sql)):
        raise ConfigError(f"data.sources: sql: name the column in `cursor`, and write {CURSOR_EXAMPLE} in the query")
    url = _resolve_url(source, recipe)
    uri = _build_uri(source, recipe, url)
    last_fingerprint = seen.get(uri)
    extent = f"from cursor {last_fingerprint}" if last_fingerprint and source.cursor else "whole"
    logger.info("scanning %s of %s %s", uri, redact_url(source.url), extent)
    start = _decode_cursor(last_fingerprint) if source.cursor else None
    table, largest = _query_rows(source, recipe, url, uri, start)
    if source.cursor and last_fingerprint is None and not table.num_rows:
        logger.warning("%s returned no rows for :cursor = NULL; write %s in the query", uri, CURSOR_EXAMPLE)
    fingerprint = _encode_cursor(largest) if source.cursor else digest_table(table)
    if table.num_rows and fingerprint != last_fingerprint:
        yield Piece(uri, fingerprint, [table])


def _query_rows(source: SqlSource, recipe: Recipe, url: "URL", uri: str, start: object) -> "tuple[pa.Table, object]":
    """Run the query and return its rows and the largest cursor value.

    Args:
        start: cursor value to continue from; None for all rows.
    """
    from sqlalchemy import create_engine

    layout = build_layout(recipe)
    largest = [start]  # a list, so that the generator of rows can update it
    with _explain_errors(source):
        engine = create_engine(url, hide_parameters=True)
        try:
            with engine.connect().execution_options(stream_results=True, yield_per=CHUNK) as connection:
                result = connection.execute(_build_statement(source, start))
                keys = list(result.keys())
                if source.cursor and source.cursor not in keys:
                    raise DataError(f"cursor {source.cursor}: not in the query's result; it has {', '.join(keys)}")
                columns = match_columns(layout, keys, uri)
                rows = _read_raw_rows((row._mapping for row in result), columns, source.cursor, largest)
                return build_whole_table(rows, layout, uri, source.split), largest[0]
        finally:
            engine.dispose()


def _build_statement(source: SqlSource, start: object) -> "TextClause":
    """Return the query with the cursor rendered into it as a literal of its dialect.

    A bound parameter has no type in `:cursor IS NULL`, so PostgreSQL drivers that bind on the server reject it.
    """
    from sqlalchemy import bindparam, text

    query = text(source.sql)
    return query.bindparams(bindparam("cursor", start, literal_execute=True)) if source.cursor else query


def _read_raw_rows(
    rows: "Iterator[RowMapping]", columns: list[str], cursor: str | None, largest: list[object]
) -> Iterator[RawRow]:
    for row in rows:
        if cursor and row[cursor] is not None:
            largest[0] = _pick_larger(largest[0], row[cursor], cursor)
        yield RawRow([row[column] for column in columns])


def _pick_larger(first: object, second: Orderable, cursor: str) -> object:
    try:
        return second if first is None or second > first else first
    except TypeError:
        types = f"{type(first).__name__} ({first!r}) and {type(second).__name__} ({second!r})"
        raise DataError(
            f"cursor {cursor}: its values have different types, {types}, which cannot be ordered; "
            "choose a column of one type, or CAST it in the query"
        ) from None


def _resolve_url(source: SqlSource, recipe: Recipe) -> "URL":
    """Return the URL with its placeholders filled; the path of a SQLite file is relative to the recipe's folder.

    Raises:
        DataError: the URL is invalid, or its SQLite file does not exist (SQLite would create an empty one).
    """
    from sqlalchemy import make_url

    filled_url = PASSWORD.sub(lambda match: quote(expand_variables(match[0]), safe=""), source.url)
    with _explain_errors(source):
        url = make_url(expand_variables(filled_url))
    database = url.database
    if url.get_backend_name() != "sqlite" or not database or database == ":memory:" or database.startswith("file:"):
        return url
    if not (recipe.folder / database).is_file():
        raise DataError(f"{Path(database).name}: no such SQLite file; check the url (relative to the recipe's folder)")
    return url.set(database=str(recipe.folder / database))


def _build_uri(source: SqlSource, recipe: Recipe, url: "URL") -> str:
    """Return the source's name: a digest, so that another query, database, cursor or mapping starts from NULL again."""
    layout = build_layout(recipe)
    address = [url.drivername, url.host, url.port, url.database]
    return f"sql:{compute_digest(source.sql, address, source.cursor, layout.columns, layout.kinds)}"


@contextlib.contextmanager
def _explain_errors(source: SqlSource) -> Iterator[None]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, OSError, ModuleNotFoundError) as error:
        cause = getattr(error, "orig", None) or error
        driver = " install the driver;" if isinstance(error, ModuleNotFoundError) else ""
        raise DataError(
            f"{redact_url(source.url)}: the query failed ({redact_message(str(cause), source.url)});{driver} "
            "check that the database can be reached, and the url and sql of this source"
        ) from None  # a chained error would show the URL with its password


def _encode_cursor(value: object) -> str:
    type_name = type(value).__name__
    is_json = type_name in {"int", "float", "str", "NoneType"}
    return json.dumps([type_name, value if is_json else str(value)])


def _decode_cursor(text: str | None) -> object:
    if text is None:
        return None
    type_name, value = json.loads(text)
    return CURSOR_TYPES[type_name](value) if type_name in CURSOR_TYPES else value
