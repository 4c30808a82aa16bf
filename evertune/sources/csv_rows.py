"""Rows of CSV and TSV files. Every cell is text; an empty one is null."""

import csv
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from evertune.errors import DataError
from evertune.sources.piece import Raw
from evertune.sources.text_file import File, damage, damaged, encoding_error, open_text

LONGEST_CELL = 1 << 24  # characters; csv's own limit of 131,072 would refuse long documents


def names(file: File) -> list[str]:
    """The header.

    Raises:
        DataError: the file is empty or has no header.
    """
    with open_text(file, strict=False) as stream:
        header = _header(_reader(stream, file), file)
    if any(damaged(name) for name in header):
        raise encoding_error(file)
    return header


def rows(file: File, columns: Sequence[str], strict: bool) -> Iterator[Raw]:
    """The cells of the named columns, row by row; a row that cannot be read is a problem.

    Raises:
        DataError: a wrong byte, where `strict`.
    """
    with open_text(file, strict) as stream:
        reader = _reader(stream, file)
        header = _header(reader, file)
        places = [header.index(column) for column in columns]
        for line, record in _records(reader):
            yield _raw(record, places, len(header), line, file)


def _reader(stream: TextIO, file: File) -> Any:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    return csv.reader(stream, delimiter="\t" if file.format == "tsv" else ",", strict=True)


def _header(reader: Any, file: File) -> list[str]:
    for _, record in _records(reader):
        if isinstance(record, str):
            raise DataError(f"{file.name}: the header cannot be read: {record}")
        return [name.strip() for name in record]
    raise DataError(f"{file.name}: there is no header line; write the names of the columns into the first line")


def _records(reader: Any) -> Iterator[tuple[int, list[str] | str]]:
    """The first line and the cells of each record, or what is wrong with it; blank lines are skipped."""
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, _explained(str(error))
            continue
        if record:
            yield line, record


def _explained(error: str) -> str:
    if error == "unexpected end of data":
        return 'a quote that opens here is never closed; close it, or double it ("") where it belongs to the text'
    if "expected after" in error:
        return 'text goes on after a closing quote; double the quotes ("") that belong to the text'
    return f"{error}; mend the line"


def _raw(record: list[str] | str, places: Sequence[int], width: int, line: int, file: File) -> Raw:
    if isinstance(record, str):
        return Raw(None, f"line {line}: {record}")
    if len(record) != width:
        cells = f"{len(record)} cell{'s' * (len(record) != 1)}"
        return Raw(None, f"line {line}: {cells}, but the header has {width}; quote cells that hold the delimiter")
    found = [record[place] or None for place in places]
    if any(cell is not None and damaged(cell) for cell in found):
        return Raw(None, damage(line, file.encoding))
    return Raw(found)
