"""Read the sources of a recipe as tables of roles. A kind of source is a module here and a line in `KINDS`."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

from evertune.config import DeltaSource, HubSource, PathSource, Recipe, SampleSource, SqlSource
from evertune.data.sources import delta, files, hub, sample, sql
from evertune.data.sources.chunk import Piece
from evertune.data.sources.content import FileCache
from evertune.data.sources.scoring_input import read_inputs
from evertune.errors import ConfigError

__all__ = ["Piece", "fingerprints", "read_inputs", "read_sources"]

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)
KINDS: dict[type, ModuleType] = {
    PathSource: files,
    SampleSource: sample,
    HubSource: hub,
    SqlSource: sql,
    DeltaSource: delta,
}


def fingerprints(recipe: Recipe, cache: FileCache, seen: dict[str, str] | None = None) -> dict[str, str] | None:
    """Return `{uri: fingerprint}` of what the sources hold now, without reading rows.

    The result is None where a source's rows must be read to know, as for a SQL query.

    Args:
        cache: `{uri: [size, mtime_ns, digest]}` of files; updated in place.
        seen: `{uri: fingerprint}` of an earlier reading. With it SQL queries are run, and included if they bring new
            rows.
    Raises:
        DataError: a file or table is missing or cannot be read.
    """
    uri_fingerprints: dict[str, str] = {}
    for source in recipe.data.sources:
        if seen is not None and isinstance(source, SqlSource):
            uri_fingerprints.update(sql.detect_changes(source, recipe, seen))
            continue
        source_fingerprints = KINDS[type(source)].fingerprints(source, recipe, cache)
        if source_fingerprints is None:
            return None
        uri_fingerprints.update(source_fingerprints)
    return uri_fingerprints


def read_sources(recipe: Recipe, seen: dict[str, str], cache: FileCache | None = None) -> Iterator[Piece]:
    """Yield every piece whose fingerprint differs from the one in `seen`, in the recipe's order.

    Args:
        seen: `{uri: fingerprint}` of pieces that were ingested; a SQL source with a cursor continues from its entry.
        cache: as for `fingerprints`. Default: every file is read.
    Raises:
        ConfigError: two sources are the same.
        DataError: a source is missing, broken, or lacks a column.
    """
    uris: set[str] = set()
    for index, source in enumerate(recipe.data.sources):
        options = {"cache": {} if cache is None else cache} if isinstance(source, PathSource) else {}
        for piece in KINDS[type(source)].read(source, recipe, seen, **options):
            if piece.uri in uris:
                raise ConfigError(
                    f"data.sources.{index}: an earlier source already reads {piece.uri}; remove one of the two"
                )
            uris.add(piece.uri)
            yield replace(piece, tables=_warn_if_empty(piece))


def _warn_if_empty(piece: Piece) -> "Iterator[pa.Table]":
    count = 0
    for table in piece.tables:
        count += len(table)
        yield table
    if not count:
        logger.warning("%s has no rows", piece.uri)
