"""The schema of stored rows, and their versions, keys and digests, by which rows are compared."""

import json
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.columns.components import find_repeated
from evertune.data.columns.digests import digest_values, hash_texts, join_columns
from evertune.data.columns.strings import get_text_bytes
from evertune.errors import DataError
from evertune.objectives import LISTS, ROLES, load_objective

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ESCAPED = r'["\\\x00-\x1f]'  # characters that JSON escapes
ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def list_roles(recipe: Recipe) -> list[str]:
    """Return the roles that make up a row's content: the objective's, then the mapped ones of id, timestamp, group."""
    return [*load_objective(recipe.objective.type).COLUMNS, *(role for role in ROLES if role in recipe.data.columns)]


def has_id(recipe: Recipe) -> bool:
    """Whether rows have an id, so that a changed row supersedes its older version."""
    return "id" in recipe.data.columns


def build_schema(recipe: Recipe) -> "pa.Schema":
    """Return the columns of a row on its way from a source to the corpus or the quarantine."""
    import pyarrow as pa

    objective_fields = [
        (role, to_arrow_type(kind)) for role, kind in load_objective(recipe.objective.type).COLUMNS.items()
    ]
    return pa.schema(
        [
            ("row_version", pa.string()),
            ("row_key", pa.string()),
            ("occurrence", pa.int64()),
            *objective_fields,
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


def to_arrow_type(kind: str) -> "pa.DataType":
    """Return the Arrow type of a column of this kind."""
    import pyarrow as pa

    return pa.list_(pa.string()) if kind in LISTS else pa.string()


def list_own_columns(names: list[str]) -> list[str]:
    """Return the objective's columns among those of a table: the inputs first, then the target.

    Args:
        names: all columns of the table, in the order of `build_schema`.
    """
    return names[names.index("occurrence") + 1 : names.index("id")]


def add_keys(table: "pa.Table", recipe: Recipe) -> "pa.Table":
    """Return a source's table in the schema of `build_schema`, each row with its version, key and digests.

    A blank id or group counts as missing, else it would tie unrelated rows together. A table that already has
    `occurrence` numbers keeps them: a mended row stays the same copy of its content.

    Raises:
        DataError: a column is missing, or its type does not fit the schema.
    """
    import numpy as np

    versioned_rows = add_versions(table, recipe)
    if has_id(recipe):
        return versioned_rows
    is_unnumbered = np.ones(len(versioned_rows), dtype=bool)
    if "occurrence" in table.column_names:
        is_unnumbered = np.asarray(table["occurrence"].is_null())
    unnumbered_rows = versioned_rows.filter(is_unnumbered)
    sources = np.asarray(unnumbered_rows["source"].combine_chunks().dictionary_encode().indices.fill_null(-1))
    positions, occurrence_numbers = find_occurrences(versions_to_numbers(unnumbered_rows["row_version"]), sources)
    return renumber_rows(versioned_rows, np.flatnonzero(is_unnumbered)[positions], occurrence_numbers, recipe)


def add_versions(table: "pa.Table", recipe: Recipe) -> "pa.Table":
    """Do the same as `add_keys`, but take every row without an `occurrence` number as the first of its content.

    Raises:
        DataError: a column is missing, or its type does not fit the schema.
    """
    import pyarrow as pa

    target_schema = build_schema(recipe)
    columns = {name: _read_column(table, target_schema.field(name), recipe) for name in target_schema.names}
    columns |= {name: blank_to_null(columns[name]) for name in ("id", "group")}
    columns["occurrence"] = columns["occurrence"].fill_null(0)
    columns["row_version"] = _compute_versions(columns, recipe)
    columns["row_key"] = _choose_keys(columns, recipe)
    objective = load_objective(recipe.objective.type)
    columns["input_digest"] = digest_values(join_columns([columns[role] for role in objective.INPUTS]))
    columns["target_digest"] = digest_values(columns[objective.TARGET])
    return pa.table(columns, schema=target_schema)


def find_occurrences(versions: "np.ndarray", sources: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Return the ascending positions of rows whose content occurs earlier in their source, and how often it does.

    Args:
        versions: from `versions_to_numbers`, (rows, 2).
        sources: a number for each row's source, (rows,).
    """
    import numpy as np

    candidates = np.sort(find_repeated(versions[:, 0]))
    order = candidates[np.lexsort((candidates, versions[candidates, 1], versions[candidates, 0], sources[candidates]))]
    columns = np.column_stack([versions[order], sources[order].astype(np.uint64)])
    starts = np.flatnonzero(np.append(True, (columns[1:] != columns[:-1]).any(axis=1))[: len(order)])
    counts = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    repeats = np.flatnonzero(counts)
    repeats = repeats[np.argsort(order[repeats])]
    return order[repeats], counts[repeats]


def renumber_rows(
    rows: "pa.Table", positions: "np.ndarray", numbers: "np.ndarray | pa.Array | pa.ChunkedArray", recipe: Recipe
) -> "pa.Table":
    """Return the rows, some of them with a new occurrence number and the version that follows from it.

    Args:
        positions: ascending positions of these rows.
        numbers: their occurrence numbers.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(positions):
        return rows
    chosen_rows = rows.take(pa.array(positions))
    index = rows.column_names.index("occurrence")
    renumbered_rows = add_versions(chosen_rows.set_column(index, "occurrence", pa.array(numbers, pa.int64())), recipe)
    mask = np.zeros(len(rows), dtype=bool)
    mask[positions] = True
    for name in ("occurrence", "row_version", "row_key"):
        column = pc.replace_with_mask(
            rows[name].combine_chunks(), pa.array(mask), renumbered_rows[name].combine_chunks()
        )
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


def versions_to_numbers(versions: "pa.Array | pa.ChunkedArray") -> "np.ndarray":
    """Return row versions as two numbers each, (rows, 2), which sort as the versions do."""
    import numpy as np
    import pyarrow as pa

    chunks = versions.chunks if isinstance(versions, pa.ChunkedArray) else [versions]
    data = b"".join(bytes.fromhex(get_text_bytes(chunk)[0].tobytes().decode()) for chunk in chunks)
    return np.frombuffer(data, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def order_versions(versions: "np.ndarray") -> "np.ndarray":
    """Return the positions of versions in ascending order of the versions.

    Args:
        versions: from `versions_to_numbers`, (rows, 2).
    """
    import numpy as np

    order = np.argsort(versions[:, 0])
    upper = versions[order, 0]
    has_ties = (upper[1:] == upper[:-1]).any()
    return np.lexsort((versions[:, 1], versions[:, 0])) if has_ties else order


def numbers_to_versions(numbers: "np.ndarray") -> "pa.Array":
    """Return the row versions that `versions_to_numbers` converted to these numbers."""
    return _format_versions(numbers.astype(">u8").tobytes())


def blank_to_null(column: "pa.Array | pa.ChunkedArray") -> "pa.Array | pa.ChunkedArray":
    """Return a column of strings with blank ones as nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column)


def _read_column(table: "pa.Table", field: "pa.Field", recipe: Recipe) -> "pa.Array":
    import pyarrow as pa

    is_unmapped = field.name in ROLES and field.name not in recipe.data.columns
    if field.name not in table.column_names or is_unmapped:
        if field.name in load_objective(recipe.objective.type).COLUMNS:
            available = ", ".join(table.column_names)
            raise DataError(
                f"a source has no column for the role {field.name}; it has {available}. Map the role in data.columns"
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


def _compute_versions(columns: "dict[str, pa.Array]", recipe: Recipe) -> "pa.Array":
    """Return 128 bits of BLAKE2b of each row's content, and of its occurrence number if that is not 0."""
    import pyarrow as pa
    import pyarrow.compute as pc

    content = _serialize_contents(columns, recipe)
    number = columns["occurrence"]
    if pc.any(pc.not_equal(number, 0)).as_py():
        numbered_content = pc.binary_join_element_wise(content, number.cast(pa.string()), "#")
        content = pc.if_else(pc.equal(number, 0), content, numbered_content)
    return _format_versions(hash_texts(content, 16))


def _format_versions(versions: bytes) -> "pa.Array":
    """Return concatenated versions of 16 bytes each as strings of hexadecimal digits."""
    import numpy as np
    import pyarrow as pa

    count = len(versions) // 16
    ends = np.arange(0, 32 * count + 1, 32, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(ends), pa.py_buffer(versions.hex().encode())])


def _serialize_contents(columns: "dict[str, pa.Array]", recipe: Recipe) -> "pa.Array":
    """Return canonical JSON of each row's content without missing values; an unreadable row has its raw digest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = sorted([*list_roles(recipe), "given_split", "problem_digest"])
    moments = pc.coalesce(columns["timestamp"].cast(pa.int64()).cast(pa.string()), columns["timestamp_problem"])
    json_columns = {**columns, "timestamp": moments}
    parts = [pa.repeat(pa.scalar("{"), len(moments))]
    for name in names:
        if json_columns[name].null_count < len(moments):
            member = pc.binary_join_element_wise(f',"{name}":', _serialize_json(json_columns[name]), "")
            parts.append(pc.fill_null(member, ""))
    json_objects = pc.binary_join_element_wise(*parts, "}", "")
    return pc.replace_substring(json_objects, "{,", "{", max_replacements=1)


def _serialize_json(column: "pa.Array") -> "pa.Array":
    """Return each value as JSON, null for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        return pa.array([None if value is None else ENCODE(value) for value in column.to_pylist()], pa.string())
    quoted = pc.binary_join_element_wise('"', column, '"', "")
    needs_escape = pc.fill_null(pc.match_substring_regex(column, ESCAPED), False)
    if not pc.any(needs_escape).as_py():
        return quoted
    escaped = pa.array([ENCODE(value) for value in column.filter(needs_escape).to_pylist()])
    return pc.replace_with_mask(quoted, needs_escape, escaped)


def _choose_keys(columns: "dict[str, pa.Array]", recipe: Recipe) -> "pa.Array":
    import pyarrow.compute as pc

    return pc.coalesce(columns["id"], columns["row_version"]) if has_id(recipe) else columns["row_version"]
