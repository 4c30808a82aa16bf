"""Convert raw rows to Arrow tables of roles, in chunks of bounded size."""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from evertune.data.row_versions import to_arrow_type
from evertune.data.sources.chunk import Layout, RawRow
from evertune.data.sources.formats import cells, images
from evertune.records import compute_digest

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

CHUNK = 10_000  # rows that are held as Python values at a time


def chunk_rows(rows: Iterable[RawRow]) -> Iterator[tuple[int, list[RawRow]]]:
    """Yield the rows in chunks of `CHUNK`, each with the number of its first row; at least one chunk."""
    start = 0
    remaining = iter(rows)
    while True:
        chunk = list(itertools.islice(remaining, CHUNK))
        if chunk or start == 0:
            yield start, chunk
        start += len(chunk)
        if len(chunk) < CHUNK:
            return


def build_role_tables(rows: Iterable[RawRow], layout: Layout) -> "Iterator[pa.Table]":
    """Yield the rows as tables of roles of at most `CHUNK` rows; at least one table.

    Args:
        rows: their cells are in the layout's order.
    """
    for start, chunk in chunk_rows(rows):
        yield convert_rows(chunk, range(start, start + len(chunk)), layout)


def add_source_columns(tables: "Iterable[pa.Table]", uri: str, split: str | None) -> "Iterator[pa.Table]":
    """Yield the tables with the columns `source` and `given_split` appended."""
    import pyarrow as pa

    for table in tables:
        source_column = pa.repeat(pa.scalar(uri, pa.string()), len(table))
        split_column = pa.repeat(pa.scalar(split, pa.string()), len(table))
        yield table.append_column("source", source_column).append_column("given_split", split_column)


def build_whole_table(rows: Iterable[RawRow], layout: Layout, uri: str, split: str | None = None) -> "pa.Table":
    """Return all rows as one table of roles.

    Args:
        rows: their cells are in the layout's order.
        uri: value of the column `source`.
        split: value of the column `given_split`.
    """
    import pyarrow as pa

    return pa.concat_tables(add_source_columns(build_role_tables(rows, layout), uri, split))


def digest_table(table: "pa.Table") -> str:
    """Return a digest of a table's values that does not depend on how its rows are chunked."""
    state = hashlib.blake2b(digest_size=16)
    for batch in table.to_batches():
        for row in batch.to_pylist():
            state.update(json.dumps(row, default=str).encode())
    return state.hexdigest()


def convert_rows(chunk: Sequence[RawRow], row_numbers: Sequence[int], layout: Layout) -> "pa.Table":
    """Return the rows as a table of roles with `source_row`, `problem` and `problem_digest`.

    Args:
        chunk: rows; their cells are in the layout's order.
        row_numbers: the number of each row in its source.
    """
    import pyarrow as pa

    converted_rows = [_convert_row(raw, number, layout) for raw, number in zip(chunk, row_numbers, strict=True)]
    arrays = {}
    for index, (role, kind) in enumerate(layout.kinds.items()):
        values = [row[index] for row, _, _ in converted_rows]
        if kind == "timestamp":
            moments = cast("list[tuple[datetime | None, str | None]]", values)
            arrays[role] = pa.array([moment for moment, _ in moments], pa.timestamp("us", tz="UTC"))
            arrays[f"{role}_problem"] = pa.array([text for _, text in moments], pa.string())
        else:
            arrays[role] = pa.array(values, to_arrow_type(kind))
    arrays["source_row"] = pa.array(row_numbers, pa.int64())
    arrays["problem"] = pa.array([problem for _, problem, _ in converted_rows], pa.string())
    arrays["problem_digest"] = pa.array([row_digest for _, _, row_digest in converted_rows], pa.string())
    return pa.table(arrays)


def get_converter(kind: str, folder: "Path | None") -> Callable[[object], object]:
    """Return the function that converts a cell to this kind; it raises ValueError for a cell that does not fit.

    Args:
        folder: folder of the picture files that cells may name.
    """
    return functools.partial(images.parse_image, folder=folder) if kind == "image" else CONVERTERS[kind]


def _convert_row(raw: RawRow, row_number: int, layout: Layout) -> tuple[list[object], str | None, str | None]:
    """Return the converted cells, the row's problem, and the digest of the raw row if there is a problem."""
    raw_cells = raw.cells or [None] * len(layout.kinds)
    problem = raw.problem
    values: list[object] = []
    for (role, kind), cell in zip(layout.kinds.items(), raw_cells, strict=True):
        try:
            values.append(get_converter(kind, layout.folder)(cell))
        except ValueError as error:
            values.append(None)
            problem = problem or f"row {row_number}, column {layout.columns[role]}: {error}; mend the cell"
    if problem is None:
        return values, None, None
    return values, problem, compute_digest(raw.raw_text or [str(cell) for cell in raw_cells])


def _convert_moment(cell: object) -> tuple[datetime | None, str | None]:
    """Return the moment, or the text that is no moment: the contract refuses such a row, this reader does not."""
    try:
        return cells.parse_moment(cell), None
    except ValueError:
        return None, str(cell)


CONVERTERS: dict[str, Callable[[object], object]] = {
    "string": cells.parse_text,
    "strings": cells.parse_words,
    "labels": cells.parse_labels,
    "number": cells.parse_number,
    "span": cells.parse_span,
    "image": images.parse_image,
    "timestamp": _convert_moment,
}
