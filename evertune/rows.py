"""What a kept row is: its schema, its version, its key and the digests by which rows are compared."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.errors import DataError
from evertune.objectives import ROLES, module

if TYPE_CHECKING:
    import pyarrow as pa

UNIT_SEPARATOR = "\x1f"  # joins a list's items before hashing; a contract refuses it inside a token
ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def roles(recipe: Recipe) -> list[str]:
    """The roles that make up a row's content: the objective's, then those of id, timestamp, group that are mapped."""
    return [*module(recipe.objective.type).COLUMNS, *(role for role in ROLES if role in recipe.data.columns)]


def has_id(recipe: Recipe) -> bool:
    """Whether a row is known by an id, so that a changed row supersedes its older version."""
    return "id" in recipe.data.columns


def schema(recipe: Recipe) -> "pa.Schema":
    """Columns of a row on its way from a source to the corpus or the quarantine."""
    import pyarrow as pa

    kinds = {"string": pa.string(), "strings": pa.list_(pa.string())}
    own = [(role, kinds[kind]) for role, kind in module(recipe.objective.type).COLUMNS.items()]
    return pa.schema(
        [
            ("row_version", pa.string()),
            ("row_key", pa.string()),
            ("occurrence", pa.int64()),
            *own,
            ("id", pa.string()),
            ("timestamp", pa.timestamp("us", "UTC")),
            ("group", pa.string()),
            ("timestamp_problem", pa.string()),
            ("problem", pa.string()),
            ("problem_digest", pa.string()),
            ("given_split", pa.string()),
            ("source", pa.string()),
            ("source_row", pa.int64()),
            ("input_digest", pa.int64()),
            ("target_digest", pa.int64()),
        ]
    )


def own_columns(names: list[str]) -> list[str]:
    """The objective's columns among those of a table in `schema`'s order: the input first, then the target."""
    return names[names.index("occurrence") + 1 : names.index("id")]


def keyed(table: "pa.Table", recipe: Recipe) -> "pa.Table":
    """A source's table in `schema(recipe)`, each row with its version, key and digests.

    A blank id or group is a missing one: it would tie rows together that have nothing in common.
    A table that already has `occurrence` numbers keeps them: a mended row stays the same copy of its content.

    Raises:
        DataError: a column is missing or cannot be brought into the schema.
    """
    import pyarrow as pa

    wanted = schema(recipe)
    columns = {name: _column(table, wanted.field(name), recipe) for name in wanted.names}
    columns |= {name: present(columns[name]) for name in ("id", "group")}
    if "occurrence" not in table.column_names:
        columns["occurrence"] = pa.nulls(table.num_rows, pa.int64())
    versions, occurrences = _versions(columns, recipe)
    columns["row_version"], columns["occurrence"] = pa.array(versions, pa.string()), pa.array(occurrences, pa.int64())
    columns["row_key"] = _keys(columns, recipe)
    given, *targets = module(recipe.objective.type).COLUMNS
    columns["input_digest"] = digests(columns[given])
    columns["target_digest"] = digests(columns[targets[0]]) if targets else pa.nulls(table.num_rows, pa.int64())
    return pa.table(columns, schema=wanted)


def present(column: Any) -> Any:
    """A column of strings in which blank ones are missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column)


def flat(column: Any) -> Any:
    """A column of strings as it is, a column of lists with each list joined; a missing item makes the whole missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join(column, UNIT_SEPARATOR) if pa.types.is_list(column.type) else column


def digests(column: Any) -> "pa.Array":
    """64 bits of BLAKE2b of each value, null for null: equal values, equal digest, on every machine."""
    import pyarrow as pa

    return pa.array(
        [None if value is None else _digest64(value) for value in flat(column).to_pylist()],
        pa.int64(),
    )


def _digest64(value: str) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little", signed=True)


def _column(table: "pa.Table", field: Any, recipe: Recipe) -> Any:
    import pyarrow as pa

    unmapped = field.name in ROLES and field.name not in recipe.data.columns
    if field.name not in table.column_names or unmapped:
        if field.name in module(recipe.objective.type).COLUMNS:
            found = ", ".join(table.column_names)
            raise DataError(
                f"a source gave no column for the role {field.name}; it has {found}. Map it in data.columns"
            )
        return pa.nulls(table.num_rows, field.type)
    try:
        return table[field.name].cast(field.type).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        source = table["source"][0].as_py() if "source" in table.column_names and table.num_rows else "a source"
        raise DataError(
            f"{source}: column {recipe.column(field.name)} (role {field.name}) is {table[field.name].type} and cannot "
            f"be read as {field.type}: {error}; map another column in data.columns or mend the source"
        ) from None


def _versions(columns: dict[str, Any], recipe: Recipe) -> tuple[list[str], list[int]]:
    numbered = columns["occurrence"].to_pylist()
    counts: dict[tuple[str, bytes], int] = {}
    versions, occurrences = [], []
    for source, number, content in zip(
        columns["source"].to_pylist(), numbered, _contents(columns, recipe), strict=True
    ):
        digest = hashlib.blake2b(content, digest_size=16)
        if number is None:
            number = 0 if has_id(recipe) else counts.get((source, digest.digest()), 0)
            counts[source, digest.digest()] = number + 1
        if number:
            digest.update(f"#{number}".encode())
        versions.append(digest.hexdigest())
        occurrences.append(number)
    return versions, occurrences


def _contents(columns: dict[str, Any], recipe: Recipe) -> Iterator[bytes]:
    """Canonical JSON of each row's content, missing values left out; of an unreadable row, what stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = sorted([*roles(recipe), "given_split", "problem_digest"])
    moments = pc.coalesce(columns["timestamp"].cast(pa.int64()).cast(pa.string()), columns["timestamp_problem"])
    shown = {**columns, "timestamp": moments}
    values: Iterable[tuple[Any, ...]] = zip(*(shown[name].to_pylist() for name in names), strict=True)
    for row in values:
        yield ENCODE({name: value for name, value in zip(names, row, strict=True) if value is not None}).encode()


def _keys(columns: dict[str, Any], recipe: Recipe) -> Any:
    import pyarrow.compute as pc

    return pc.coalesce(columns["id"], columns["row_version"]) if has_id(recipe) else columns["row_version"]
