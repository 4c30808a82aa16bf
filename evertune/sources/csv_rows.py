"""Rows of CSV and TSV files. Every cell is text; an empty one is null."""

import csv
from collections import deque
from collections.abc import Iterator, Sequence

from evertune.errors import DataError
from evertune.sources import tsv_records
from evertune.sources.cells import without_surrogates
from evertune.sources.piece import Raw
from evertune.sources.text_file import File, damage, damaged, encoding_error, open_text

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
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
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
            yield start, taken[0].rstrip("\r\n"), _explained(str(error))
            again.extendleft(reversed(taken[1:]))
            start += 1


def _taken(again: deque[str], stream: Iterator[str], taken: list[str]) -> Iterator[str]:
    """The lines in `again`, then those of the stream, each noted in `taken`."""
    while (line := again.popleft() if again else next(stream, None)) is not None:
        taken.append(line)
        yield line


def _explained(error: str) -> str:
    if error == "unexpected end of data":
        return 'a quote that opens here is never closed; close it, or double it ("") where it belongs to the text'
    if "expected after" in error:
        return 'text goes on after a closing quote; double the quotes ("") that belong to the text'
    return f"{error}; mend the line"


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
