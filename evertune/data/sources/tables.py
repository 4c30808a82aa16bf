"""Raw rows become Arrow tables with roles as columns, in chunks of bounded size."""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evertune.data.row_versions import to_arrow_type
from evertune.data.sources.chunk import Layout, RawRow
from evertune.data.sources.formats import cells, images
from evertune.records import compute_digest

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

CHUNK = 10_000  # rows that are held as Python values at a time


def build_role_tables(rows: Iterable[RawRow], role_layout: Layout) -> "Iterator[pa.Table]":
    """The roles of rows in tables of at most `CHUNK` rows; at least one table.

    Args:
        rows: cells in the layout's order.
    """
    start = 0
    remaining = iter(rows)
    while (chunk := list(itertools.islice(remaining, CHUNK))) or start == 0:
        yield convert_rows(chunk, range(start, start + len(chunk)), role_layout)
        start += len(chunk)
        if len(chunk) < CHUNK:
            return


def add_source_columns(tables: "Iterable[pa.Table]", uri: str, split: str | None) -> "Iterator[pa.Table]":
    """Tables of roles with the columns `source` and `given_split`."""
    import pyarrow as pa

    for table in tables:
        source_column, split_column = (pa.repeat(pa.scalar(value, pa.string()), len(table)) for value in (uri, split))
        yield table.append_column("source", source_column).append_column("given_split", split_column)


def build_whole_table(rows: Iterable[RawRow], role_layout: Layout, uri: str, split: str | None = None) -> "pa.Table":
    """All rows in one table.

    Args:
        uri: goes to the column `source`; split: to `given_split`.
    """
    import pyarrow as pa

    return pa.concat_tables(add_source_columns(build_role_tables(rows, role_layout), uri, split))


def digest_table(table: "pa.Table") -> str:
    """A digest of a table's values, the same however its rows are chunked."""
    state = hashlib.blake2b(digest_size=16)
    for batch in table.to_batches():
        for row in batch.to_pylist():
            state.update(json.dumps(row, default=str).encode())
    return state.hexdigest()


def convert_rows(chunk: Sequence[RawRow], row_numbers: Sequence[int], role_layout: Layout) -> "pa.Table":
    """The roles of rows, and `source_row`, `problem` and `problem_digest`.

    Args:
        numbers: of the rows.
    """
    import pyarrow as pa

    converted_rows = [_convert_row(raw, number, role_layout) for raw, number in zip(chunk, row_numbers, strict=True)]
    columns = {role: [row[index] for row, *_ in converted_rows] for index, role in enumerate(role_layout.kinds)}
    arrays = {}
    for role, kind in role_layout.kinds.items():
        if kind == "timestamp":
            arrays[role] = pa.array([pair[0] for pair in columns[role]], pa.timestamp("us", tz="UTC"))
            arrays[f"{role}_problem"] = pa.array([pair[1] for pair in columns[role]], pa.string())
        else:
            arrays[role] = pa.array(columns[role], to_arrow_type(kind))
    arrays["source_row"] = pa.array(row_numbers, pa.int64())
    arrays["problem"] = pa.array([problem for _, problem, _ in converted_rows], pa.string())
    arrays["problem_digest"] = pa.array([row_digest for *_, row_digest in converted_rows], pa.string())
    return pa.table(arrays)


def get_converter(kind: str, folder: "Path | None") -> Callable[[Any], Any]:
    """What makes a cell one of this kind.

    Args:
        folder: where picture files lie that cells name.
    """
    return functools.partial(images.parse_image, folder=folder) if kind == "image" else CONVERTERS[kind]


def _convert_row(raw: RawRow, row_number: int, role_layout: Layout) -> tuple[list[Any], str | None, str | None]:
    """The cells as their kinds, what is wrong with the row, and the digest of what stands there if anything is."""
    raw_cells = raw.cells or [None] * len(role_layout.kinds)
    problem = raw.problem
    values = []
    for (role, kind), cell in zip(role_layout.kinds.items(), raw_cells, strict=True):
        try:
            values.append(get_converter(kind, role_layout.folder)(cell))
        except ValueError as error:
            values.append(None)
            problem = problem or f"row {row_number}, column {role_layout.columns[role]}: {error}; mend the cell"
    return values, problem, None if problem is None else compute_digest(raw.given or [str(cell) for cell in raw_cells])


def _convert_moment(cell: Any) -> tuple[datetime | None, str | None]:
    """The moment, or the text that is none: the contract refuses the row, this reader does not."""
    try:
        return cells.parse_moment(cell), None
    except ValueError:
        return None, str(cell)


CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "string": cells.parse_text,
    "strings": cells.parse_words,
    "labels": cells.parse_labels,
    "number": cells.parse_number,
    "span": cells.parse_span,
    "image": images.parse_image,
    "timestamp": _convert_moment,
}
