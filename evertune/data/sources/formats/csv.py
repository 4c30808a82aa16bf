"""Rows of CSV and TSV files. Every cell is text; an empty one is null."""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from evertune.data.sources.chunk import Layout, RawRow
from evertune.data.sources.columns import convert_columns
from evertune.data.sources.formats import tsv
from evertune.data.sources.formats.cells import replace_surrogates
from evertune.data.sources.formats.csv_blocks import Block, explain_error, parse_cells, read_blocks
from evertune.data.sources.formats.text_file import SourceFile, describe_damage, encoding_error, is_damaged, open_text
from evertune.data.sources.tables import build_role_tables, convert_rows
from evertune.errors import DataError
from evertune.runtime.threads import iterate_ahead, map_in_threads

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_CELL = 1 << 24  # characters; csv's own limit of 131,072 would refuse long documents


def names(file: SourceFile) -> list[str]:
    """The header.

    Raises:
        DataError: the file is empty, or has no header that can be read.
    """
    with open_text(file) as stream:
        return _read_header(_read_records(stream, file), file)


def detect_delimiter(file: SourceFile) -> str:
    """What separates the cells of a CSV file: as given, else a comma, else what its header has instead of one.

    Raises:
        DataError: the file is empty or cannot be read.
    """
    if file.delimiter != "auto":
        return file.delimiter
    with open_text(file) as stream:
        header = next((line for line in stream if line.strip()), "")
    return "," if "," in header else next((sign for sign in ";\t|" if sign in header), ",")


def rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """The cells of the named columns, row by row; a row that cannot be read is a problem.

    Raises:
        DataError: the file is empty, or has no header that can be read.
    """
    with open_text(file) as stream:
        records = _read_records(stream, file)
        header = _read_header(records, file)
        column_indices = [header.index(column) for column in columns]
        for line, text, record in records:
            yield _build_raw_row(record, column_indices, len(header), line, text, file)


def tables(file: SourceFile, columns: Sequence[str], role_layout: Layout) -> "Iterator[pa.Table]":
    """The same rows as tables of roles, in parts; at least one.

    Args:
        columns: of the roles, in the layout's order.
    Raises:
        DataError: the file is empty, or has no header that can be read.
    """
    if file.format == "tsv":
        yield from build_role_tables(rows(file, columns), role_layout)
        return
    separator = detect_delimiter(file)
    header_lines = list[str]()
    with open_text(file) as stream:
        header = _read_header(_read_quoted_records(_note_lines(deque(), stream, header_lines), separator), file)
        column_indices = [header.index(column) for column in columns]

        def convert_block(block: Block) -> "pa.Table":
            plain_columns = parse_cells(block.plain, column_indices, separator, len(header))
            odd_rows = [
                _build_raw_row(record, column_indices, len(header), line, text, file)
                for line, text, record in block.odd
            ]
            return _merge_block(plain_columns, odd_rows, block, role_layout)

        yield convert_rows((), (), role_layout)  # a header alone is a table without rows
        yield from map_in_threads(
            convert_block, iterate_ahead(read_blocks(stream, len(header_lines) + 1, separator, len(header)))
        )


def _merge_block(
    plain_columns: "list[pa.Array]", odd_rows: list[RawRow], block: Block, role_layout: Layout
) -> "pa.Table":
    """The rows of a block in their order."""
    import numpy as np
    import pyarrow as pa

    size = len(plain_columns[0]) + len(odd_rows)
    odd_indices = np.asarray(block.places, dtype=np.int64) + np.arange(len(odd_rows))
    plain_indices = np.delete(np.arange(size), odd_indices)
    plain_table = convert_columns(plain_columns, (block.start + plain_indices).tolist(), role_layout)
    if not odd_rows:
        return plain_table
    unordered_rows = pa.concat_tables(
        [plain_table, convert_rows(odd_rows, (block.start + odd_indices).tolist(), role_layout)]
    )
    return unordered_rows.take(pa.array(np.argsort(np.concatenate([plain_indices, odd_indices]))))


def _allow_long_cells() -> None:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))


def _read_header(records: Iterator[tuple[int, str, list[str] | str]], file: SourceFile) -> list[str]:
    for _, text, record in records:
        if is_damaged(text):
            raise encoding_error(file)
        if isinstance(record, str):
            raise DataError(f"{file.name}: the header cannot be read: {record}")
        return [name.strip() for name in record]
    raise DataError(f"{file.name}: there is no header line; write the names of the columns into the first line")


def _read_records(stream: Iterator[str], file: SourceFile) -> Iterator[tuple[int, str, list[str] | str]]:
    """First line, text and cells of each record, or what is wrong with it; blank lines are skipped."""
    return tsv.read_records(stream) if file.format == "tsv" else _read_quoted_records(stream, detect_delimiter(file))


def _read_quoted_records(stream: Iterator[str], separator: str) -> Iterator[tuple[int, str, list[str] | str]]:
    """See `_records`.

    Of a record whose quotes are wrong only the first line is given up: a quote that is never closed must not swallow
    the rows after it.
    """
    _allow_long_cells()
    start = 1
    reread_lines = deque[str]()
    while True:
        record_lines: list[str] = []
        try:
            for record in csv.reader(_note_lines(reread_lines, stream, record_lines), delimiter=separator, strict=True):
                if record:
                    yield start, "".join(record_lines).rstrip("\r\n"), record
                start += len(record_lines)
                record_lines.clear()
            return
        except csv.Error as error:
            yield start, record_lines[0].rstrip("\r\n"), explain_error(str(error))
            reread_lines.extendleft(reversed(record_lines[1:]))
            start += 1


def _note_lines(reread_lines: deque[str], stream: Iterator[str], noted_lines: list[str]) -> Iterator[str]:
    """The lines in `again`, then those of the stream, each noted in `taken`."""
    while (line := reread_lines.popleft() if reread_lines else next(stream, None)) is not None:
        noted_lines.append(line)
        yield line


def _build_raw_row(
    record: list[str] | str, column_indices: Sequence[int], width: int, line: int, text: str, file: SourceFile
) -> RawRow:
    if isinstance(record, str):
        return RawRow(None, f"line {line}: {record}", text)
    if len(record) != width:
        cell_count = f"{len(record)} cell{'s' * (len(record) != 1)}"
        return RawRow(
            None, f"line {line}: {cell_count}, but the header has {width}; quote cells that hold the delimiter", text
        )
    row_cells = [record[index] or None for index in column_indices]
    if any(cell is not None and is_damaged(cell) for cell in row_cells):
        return RawRow([replace_surrogates(cell) for cell in row_cells], describe_damage(line, file.encoding), text)
    return RawRow(row_cells)
