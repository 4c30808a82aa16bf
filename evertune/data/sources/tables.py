"""Raw rows become Arrow tables with roles as columns, in chunks of bounded size."""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evertune.data.row_versions import arrow
from evertune.data.sources.chunk import Layout, Raw
from evertune.data.sources.formats import cells
from evertune.data.sources.formats import images as pictures
from evertune.records import digest

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

CHUNK = 10_000  # rows that are held as Python values at a time


def role_tables(rows: Iterable[Raw], wanted: Layout) -> "Iterator[pa.Table]":
    """The roles of rows in tables of at most `CHUNK` rows; at least one table.

    Args:
        rows: cells in the layout's order.
    """
    start, rest = 0, iter(rows)
    while (chunk := list(itertools.islice(rest, CHUNK))) or start == 0:
        yield roles_of(chunk, range(start, start + len(chunk)), wanted)
        start += len(chunk)
        if len(chunk) < CHUNK:
            return


def named(parts: "Iterable[pa.Table]", uri: str, split: str | None) -> "Iterator[pa.Table]":
    """Tables of roles with the columns `source` and `given_split`."""
    import pyarrow as pa

    for part in parts:
        source, given = (pa.repeat(pa.scalar(value, pa.string()), len(part)) for value in (uri, split))
        yield part.append_column("source", source).append_column("given_split", given)


def whole(rows: Iterable[Raw], wanted: Layout, uri: str, split: str | None = None) -> "pa.Table":
    """All rows in one table.

    Args:
        uri: goes to the column `source`; split: to `given_split`.
    """
    import pyarrow as pa

    return pa.concat_tables(named(role_tables(rows, wanted), uri, split))


def content_digest(table: "pa.Table") -> str:
    """A digest of a table's values, the same however its rows are chunked."""
    state = hashlib.blake2b(digest_size=16)
    for batch in table.to_batches():
        for row in batch.to_pylist():
            state.update(json.dumps(row, default=str).encode())
    return state.hexdigest()


def roles_of(chunk: Sequence[Raw], numbers: Sequence[int], wanted: Layout) -> "pa.Table":
    """The roles of rows, and `source_row`, `problem` and `problem_digest`.

    Args:
        numbers: of the rows.
    """
    import pyarrow as pa

    made = [_converted(raw, number, wanted) for raw, number in zip(chunk, numbers, strict=True)]
    columns = {role: [row[index] for row, *_ in made] for index, role in enumerate(wanted.kinds)}
    arrays = {}
    for role, kind in wanted.kinds.items():
        if kind == "timestamp":
            arrays[role] = pa.array([one[0] for one in columns[role]], pa.timestamp("us", tz="UTC"))
            arrays[f"{role}_problem"] = pa.array([one[1] for one in columns[role]], pa.string())
        else:
            arrays[role] = pa.array(columns[role], arrow(kind))
    arrays["source_row"] = pa.array(numbers, pa.int64())
    arrays["problem"] = pa.array([problem for _, problem, _ in made], pa.string())
    arrays["problem_digest"] = pa.array([held for *_, held in made], pa.string())
    return pa.table(arrays)


def converter(kind: str, folder: "Path | None") -> Callable[[Any], Any]:
    """What makes a cell one of this kind.

    Args:
        folder: where picture files lie that cells name.
    """
    return functools.partial(pictures.image, folder=folder) if kind == "image" else CONVERTERS[kind]


def _converted(raw: Raw, row: int, wanted: Layout) -> tuple[list[Any], str | None, str | None]:
    """The cells as their kinds, what is wrong with the row, and the digest of what stands there if anything is."""
    given, problem, made = raw.cells or [None] * len(wanted.kinds), raw.problem, []
    for (role, kind), cell in zip(wanted.kinds.items(), given, strict=True):
        try:
            made.append(converter(kind, wanted.folder)(cell))
        except ValueError as error:
            made.append(None)
            problem = problem or f"row {row}, column {wanted.columns[role]}: {error}; mend the cell"
    return made, problem, None if problem is None else digest(raw.given or [str(cell) for cell in given])


def _moment(cell: Any) -> tuple[datetime | None, str | None]:
    """The moment, or the text that is none: the contract refuses the row, this reader does not."""
    try:
        return cells.moment(cell), None
    except ValueError:
        return None, str(cell)


CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "string": cells.text, "strings": cells.words, "labels": cells.labels, "number": cells.number, "span": cells.span,
    "image": pictures.image, "timestamp": _moment,
}  # fmt: skip
