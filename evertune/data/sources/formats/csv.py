"""Read CSV and TSV files. Every cell is text; an empty one is null."""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from evertune.data.sources.chunk import Layout, RawRow
from evertune.data.sources.columns import convert_columns
from evertune.data.sources.formats import tsv
from evertune.data.sources.formats.cells import replace_surrogates
from evertune.data.sources.formats.csv_blocks import Block, Record, explain_error, parse_cells, read_blocks
from evertune.data.sources.formats.text_file import SourceFile, describe_damage, encoding_error, is_damaged, open_text
from evertune.data.sources.tables import build_role_tables, convert_rows
from evertune.errors import DataError
from evertune.runtime.threads import iterate_ahead, map_in_threads

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_CELL = 1 << 24  # characters; the csv module's limit of 131,072 would refuse long documents


def read_column_names(file: SourceFile) -> list[str]:
    """Return the names in the header.

    Raises:
        DataError: the file is empty, or has no readable header.
    """
    with open_text(file) as stream:
        return _read_header(_read_records(stream, file), file)


def detect_delimiter(file: SourceFile) -> str:
    """Return the delimiter of a CSV file: as given, else the first of comma, semicolon, tab and `|` in its header.

    Raises:
        DataError: the file is empty or cannot be read.
    """
    if file.delimiter != "auto":
        return file.delimiter
    with open_text(file) as stream:
        header = next((line for line in stream if line.strip()), "")
    return next((sign for sign in ",;\t|" if sign in header), ",")


def read_rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """Yield the cells of the named columns, row by row; a row that cannot be read has a problem.

    Raises:
        DataError: the file is empty, or has no readable header.
    """
    with open_text(file) as stream:
        records = _read_records(stream, file)
        header = _read_header(records, file)
        column_indices = [header.index(column) for column in columns]
        for record in records:
            yield _build_raw_row(record, column_indices, len(header), file)


def read_tables(file: SourceFile, columns: Sequence[str], layout: Layout) -> "Iterator[pa.Table]":
    """Yield the same rows as tables of roles, block by block; at least one table.

    Args:
        columns: the column of each role, in the layout's order.
    Raises:
        DataError: the file is empty, or has no readable header.
    """
    if file.format == "tsv":
        yield from build_role_tables(read_rows(file, columns), layout)
        return
    separator = detect_delimiter(file)
    header_lines = list[str]()
    with open_text(file) as stream:
        header_records = _read_quoted_records(_note_lines(deque(), stream, header_lines), separator)
        header = _read_header(header_records, file)
        column_indices = [header.index(column) for column in columns]

        def convert_block(block: Block) -> "pa.Table":
            plain_columns = parse_cells(block.plain, column_indices, separator, len(header))
            odd_rows = [_build_raw_row(record, column_indices, len(header), file) for record in block.odd]
            return _merge_block(plain_columns, odd_rows, block, layout)

        yield convert_rows((), (), layout)  # a header alone is a table without rows
        blocks = read_blocks(stream, len(header_lines) + 1, separator, len(header))
        yield from map_in_threads(convert_block, iterate_ahead(blocks))


def _merge_block(plain_columns: "list[pa.Array]", odd_rows: list[RawRow], block: Block, layout: Layout) -> "pa.Table":
    """Return the rows of a block in their original order."""
    import numpy as np
    import pyarrow as pa

    size = len(plain_columns[0]) + len(odd_rows)
    odd_indices = np.asarray(block.plain_before, dtype=np.int64) + np.arange(len(odd_rows))
    plain_indices = np.delete(np.arange(size), odd_indices)
    plain_table = convert_columns(plain_columns, (block.start + plain_indices).tolist(), layout)
    if not odd_rows:
        return plain_table
    odd_table = convert_rows(odd_rows, (block.start + odd_indices).tolist(), layout)
    order = np.argsort(np.concatenate([plain_indices, odd_indices]))
    return pa.concat_tables([plain_table, odd_table]).take(pa.array(order))


def _allow_long_cells() -> None:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))


def _read_header(records: Iterator[Record], file: SourceFile) -> list[str]:
    for record in records:
        if is_damaged(record.text):
            raise encoding_error(file)
        if isinstance(record.cells, str):
            raise DataError(f"{file.name}: the header cannot be read: {record.cells}")
        return [name.strip() for name in record.cells]
    raise DataError(f"{file.name}: the file has no header; write the column names into the first line")


def _read_records(stream: Iterator[str], file: SourceFile) -> Iterator[Record]:
    """Yield the records of a file; blank lines are skipped."""
    if file.format == "tsv":
        return (Record(*record) for record in tsv.read_records(stream))
    return _read_quoted_records(stream, detect_delimiter(file))


def _read_quoted_records(stream: Iterator[str], separator: str) -> Iterator[Record]:
    """Yield the records of a CSV text; blank lines are skipped.

    Only the first line of a record with wrong quotes is lost: a quote that is never closed must not swallow the rows
    after it.
    """
    _allow_long_cells()
    start = 1
    reread_lines = deque[str]()
    while True:
        record_lines: list[str] = []
        try:
            for cells in csv.reader(_note_lines(reread_lines, stream, record_lines), delimiter=separator, strict=True):
                if cells:
                    yield Record(start, "".join(record_lines).rstrip("\r\n"), cells)
                start += len(record_lines)
                record_lines.clear()
            return
        except csv.Error as error:
            yield Record(start, record_lines[0].rstrip("\r\n"), explain_error(str(error)))
            reread_lines.extendleft(reversed(record_lines[1:]))
            start += 1


def _note_lines(reread_lines: deque[str], stream: Iterator[str], noted_lines: list[str]) -> Iterator[str]:
    """Yield the lines to read again, then those of the stream, and append each to `noted_lines`."""
    while True:
        line = reread_lines.popleft() if reread_lines else next(stream, None)
        if line is None:
            return
        noted_lines.append(line)
        yield line


def _build_raw_row(record: Record, column_indices: Sequence[int], width: int, file: SourceFile) -> RawRow:
    if isinstance(record.cells, str):
        return RawRow(None, f"line {record.line}: {record.cells}", record.text)
    count = len(record.cells)
    if count != width:
        cell_count = "1 cell" if count == 1 else f"{count} cells"
        problem = f"line {record.line}: {cell_count}, but the header has {width}; quote cells that hold the delimiter"
        return RawRow(None, problem, record.text)
    row_cells = [record.cells[index] or None for index in column_indices]
    if any(cell is not None and is_damaged(cell) for cell in row_cells):
        problem = describe_damage(record.line, file.encoding)
        return RawRow([replace_surrogates(cell) for cell in row_cells], problem, record.text)
    return RawRow(row_cells)
