"""Rows of CSV and TSV files. Every cell is text; an empty one is null."""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from evertune.data.sources.chunk import Layout, Raw
from evertune.data.sources.columns import arrow_roles
from evertune.data.sources.formats import tsv as tsv_records
from evertune.data.sources.formats.cells import without_surrogates
from evertune.data.sources.formats.csv_blocks import Block, blocks, cells, explained
from evertune.data.sources.formats.text_file import File, damage, damaged, encoding_error, open_text
from evertune.data.sources.tables import role_tables, roles_of
from evertune.errors import DataError
from evertune.runtime.threads import ahead, mapped

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_CELL = 1 << 24  # characters; csv's own limit of 131,072 would refuse long documents


def names(file: File) -> list[str]:
    """The header.

    Raises:
        DataError: the file is empty, or has no header that can be read.
    """
    with open_text(file) as stream:
        return _header(_records(stream, file), file)


def delimiter(file: File) -> str:
    """What separates the cells of a CSV file: as given, else a comma, else what its header has instead of one.

    Raises:
        DataError: the file is empty or cannot be read.
    """
    if file.delimiter != "auto":
        return file.delimiter
    with open_text(file) as stream:
        header = next((line for line in stream if line.strip()), "")
    return "," if "," in header else next((one for one in ";\t|" if one in header), ",")


def rows(file: File, columns: Sequence[str]) -> Iterator[Raw]:
    """The cells of the named columns, row by row; a row that cannot be read is a problem.

    Raises:
        DataError: the file is empty, or has no header that can be read.
    """
    with open_text(file) as stream:
        records = _records(stream, file)
        header = _header(records, file)
        places = [header.index(column) for column in columns]
        for line, text, record in records:
            yield _raw(record, places, len(header), line, text, file)


def tables(file: File, columns: Sequence[str], wanted: Layout) -> "Iterator[pa.Table]":
    """The same rows as tables of roles, in parts; at least one.

    Args:
        columns: of the roles, in the layout's order.
    Raises:
        DataError: the file is empty, or has no header that can be read.
    """
    if file.format == "tsv":
        yield from role_tables(rows(file, columns), wanted)
        return
    separator, taken = delimiter(file), list[str]()
    with open_text(file) as stream:
        header = _header(_quoted_records(_taken(deque(), stream, taken), separator), file)
        places = [header.index(column) for column in columns]

        def made(block: Block) -> "pa.Table":
            plain = cells(block.plain, places, separator, len(header))
            odd = [_raw(record, places, len(header), line, text, file) for line, text, record in block.odd]
            return _merged(plain, odd, block, wanted)

        yield roles_of((), (), wanted)  # a header alone is a table without rows
        yield from mapped(made, ahead(blocks(stream, len(taken) + 1, separator, len(header))))


def _merged(plain: "list[pa.Array]", odd: list[Raw], block: Block, wanted: Layout) -> "pa.Table":
    """The rows of a block in their order."""
    import numpy as np
    import pyarrow as pa

    size = len(plain[0]) + len(odd)
    at = np.asarray(block.places, dtype=np.int64) + np.arange(len(odd))
    others = np.delete(np.arange(size), at)
    one = arrow_roles(plain, (block.start + others).tolist(), wanted)
    if not odd:
        return one
    both = pa.concat_tables([one, roles_of(odd, (block.start + at).tolist(), wanted)])
    return both.take(pa.array(np.argsort(np.concatenate([others, at]))))


def _allow_long_cells() -> None:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))


def _header(records: Iterator[tuple[int, str, list[str] | str]], file: File) -> list[str]:
    for _, text, record in records:
        if damaged(text):
            raise encoding_error(file)
        if isinstance(record, str):
            raise DataError(f"{file.name}: the header cannot be read: {record}")
        return [name.strip() for name in record]
    raise DataError(f"{file.name}: there is no header line; write the names of the columns into the first line")


def _records(stream: Iterator[str], file: File) -> Iterator[tuple[int, str, list[str] | str]]:
    """First line, text and cells of each record, or what is wrong with it; blank lines are skipped."""
    return tsv_records.records(stream) if file.format == "tsv" else _quoted_records(stream, delimiter(file))


def _quoted_records(stream: Iterator[str], separator: str) -> Iterator[tuple[int, str, list[str] | str]]:
    """See `_records`.

    Of a record whose quotes are wrong only the first line is given up: a quote that is never closed must not swallow
    the rows after it.
    """
    _allow_long_cells()
    start, again = 1, deque[str]()
    while True:
        taken: list[str] = []
        try:
            for record in csv.reader(_taken(again, stream, taken), delimiter=separator, strict=True):
                if record:
                    yield start, "".join(taken).rstrip("\r\n"), record
                start += len(taken)
                taken.clear()
            return
        except csv.Error as error:
            yield start, taken[0].rstrip("\r\n"), explained(str(error))
            again.extendleft(reversed(taken[1:]))
            start += 1


def _taken(again: deque[str], stream: Iterator[str], taken: list[str]) -> Iterator[str]:
    """The lines in `again`, then those of the stream, each noted in `taken`."""
    while (line := again.popleft() if again else next(stream, None)) is not None:
        taken.append(line)
        yield line


def _raw(record: list[str] | str, places: Sequence[int], width: int, line: int, text: str, file: File) -> Raw:
    if isinstance(record, str):
        return Raw(None, f"line {line}: {record}", text)
    if len(record) != width:
        cells = f"{len(record)} cell{'s' * (len(record) != 1)}"
        return Raw(None, f"line {line}: {cells}, but the header has {width}; quote cells that hold the delimiter", text)
    found = [record[place] or None for place in places]
    if any(cell is not None and damaged(cell) for cell in found):
        return Raw([without_surrogates(cell) for cell in found], damage(line, file.encoding), text)
    return Raw(found)
