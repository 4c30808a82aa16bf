"""CSV files by blocks of lines: a line that is a record by itself is Arrow's to read, any other one is Python's."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from evertune.data.columns.strings import get_text_bytes

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 22  # characters that are read at once
WIDEST = 200  # columns; in a wider file every record is Python's
BLANK = r"^\r?\n?\z"
UNKNOWN = (b"\xed\xb2", b"\xed\xb3")  # how a byte that the encoding does not know begins, as `open_text` leaves it

OddRecord = tuple[int, str, list[str] | str]  # first line, text and cells of a record, or what is wrong with it


@dataclass(frozen=True)
class Block:
    """Records that follow each other.

    Args:
        plain: the lines that are records by themselves.
        odd: the others; places: before which of the plain ones each of them stands.
        start: number of the first record.
    """

    plain: "pa.Array"
    odd: list[OddRecord]
    places: list[int]
    start: int


class LineReader:
    """The lines of a text from here on, by blocks.

    Args:
        number: of the next line.
    """

    def __init__(self, stream: TextIO, number: int) -> None:
        self.stream = stream
        self.number = number
        self.block: Any = ()  # lines with their ends
        self.position = 0  # the next one of them
        self.later_lines = deque[str]()  # lines behind the block that were taken and put back

    def next_block(self) -> bool:
        """Whether there are more lines; they stand in `block` then."""
        text = "".join(self.later_lines) + self.stream.read(BLOCK) + self.stream.readline()
        self.later_lines.clear()
        self.block = _split_lines(text)
        self.position = 0
        return bool(text)

    def skip_lines(self, count: int) -> None:
        """Go on behind some lines of the block."""
        self.position += count
        self.number += count

    def read_record(self, separator: str) -> OddRecord | None:
        """The next record; None where a line is blank.

        Of a record whose quotes are wrong only the first line is given up: a quote that is never closed must not
        swallow the rows after it.
        """
        record_lines = list[str]()
        start = self.number
        remaining = len(self.block) - self.position
        try:
            cells_or_problem: list[str] | str = next(
                csv.reader(self._note_lines(record_lines), delimiter=separator, strict=True), []
            )
        except csv.Error as error:
            cells_or_problem = explain_error(str(error))
            self.later_lines.extendleft(reversed(record_lines[max(1, remaining) :]))
            del record_lines[1:]
        self.position += min(len(record_lines), remaining)
        self.number += len(record_lines)
        return (start, "".join(record_lines).rstrip("\r\n"), cells_or_problem) if cells_or_problem else None

    def _note_lines(self, noted_lines: list[str]) -> Iterator[str]:
        """The lines from here on, each noted in `taken`."""
        for line in self.block[self.position :]:
            noted_lines.append(line.as_buffer().to_pybytes().decode("utf-8", "surrogatepass"))
            yield noted_lines[-1]
        while line := self.later_lines.popleft() if self.later_lines else self.stream.readline():
            noted_lines.append(line)
            yield line


def read_blocks(stream: TextIO, number: int, separator: str, width: int) -> Iterator[Block]:
    """The records of a text that stands behind its header.

    Args:
        number: of the next line.
        width: columns of the header.
    """
    reader = LineReader(stream, number)
    start = 0
    while reader.next_block():
        block = _build_block(reader, separator, width, start)
        start += len(block.plain) + len(block.odd)
        yield block


def parse_cells(plain: "pa.Array", column_indices: Sequence[int], separator: str, width: int) -> "list[pa.Array]":
    """The cells of plain records in the named places; an empty one is null."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as arrow_csv

    if not len(plain):
        return [pa.array([], pa.string()) for _ in column_indices]
    names = [str(index) for index in range(width)]
    needed_names = [names[index] for index in dict.fromkeys(column_indices)]
    data = pa.py_buffer(get_text_bytes(plain)[0])
    parsed_table = arrow_csv.read_csv(
        pa.BufferReader(data),
        arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
        arrow_csv.ParseOptions(delimiter=separator),
        arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(needed_names, pa.string()),
            include_columns=needed_names,
            strings_can_be_null=False,
        ),
    )
    columns = {name: parsed_table[name].combine_chunks() for name in needed_names}
    cleaned_columns = {
        name: pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column) for name, column in columns.items()
    }
    return [cleaned_columns[names[index]] for index in column_indices]


def explain_error(error: str) -> str:
    """What is wrong with a record, and what to do."""
    if error == "unexpected end of data":
        return 'a quote that opens here is never closed; close it, or double it ("") where it belongs to the text'
    if "expected after" in error:
        return 'text goes on after a closing quote; double the quotes ("") that belong to the text'
    return f"{error}; mend the line"


def _build_block(reader: LineReader, separator: str, width: int, start: int) -> Block:
    import numpy as np
    import pyarrow as pa

    is_plain, is_blank = _find_plain_lines(reader.block, separator, width)
    odd_records = list[OddRecord]()
    positions = list[int]()
    dropped_count = 0
    plain_before = np.concatenate([[0], np.cumsum(is_plain)])
    for line_index in np.flatnonzero(~is_plain & ~is_blank).tolist():
        if line_index < reader.position:
            continue  # it belongs to the record before
        reader.skip_lines(line_index - reader.position)
        if record := reader.read_record(separator):
            odd_records.append(record)
            positions.append(int(plain_before[line_index]) - dropped_count)
        dropped_count += int(plain_before[reader.position] - plain_before[line_index])
        is_plain[line_index : reader.position] = False
    reader.skip_lines(len(reader.block) - reader.position)
    return Block(
        reader.block if is_plain.all() else reader.block.filter(pa.array(is_plain)), odd_records, positions, start
    )


def _find_plain_lines(block: "pa.Array", separator: str, width: int) -> "tuple[Any, Any]":
    """Which lines are records by themselves, whatever stands before them, and which are blank."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    is_blank = np.array(pc.match_substring_regex(block, BLANK))
    if width > WIDEST or not separator.isascii():
        return np.zeros(len(block), dtype=bool), is_blank
    escaped_separator = re.escape(separator)
    cell_pattern = f'(?:[^"{escaped_separator}\\r\\n]*|"(?:[^"\\r\\n]|"")*")'
    record_pattern = f"^{cell_pattern}(?:{escaped_separator}{cell_pattern}){{{width - 1}}}\\r?\\n?\\z"
    is_plain = np.array(pc.match_substring_regex(block, record_pattern))
    for byte in UNKNOWN:
        is_plain &= ~np.array(pc.match_substring(block.cast(pa.binary()), byte))
    return is_plain & ~is_blank, is_blank


def _split_lines(text: str) -> "pa.Array":
    """The lines of a text with their ends; they end where `io` says that they do."""
    import numpy as np
    import pyarrow as pa

    data = text.encode("utf-8", "surrogatepass")
    if text.count("\r") != text.count("\r\n"):
        lines = [line.encode("utf-8", "surrogatepass") for line in io.StringIO(text, newline="")]
        ends = np.cumsum([0, *(len(line) for line in lines)])
    else:
        ends = np.append(0, np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")) + 1)
        ends = ends if ends[-1] == len(data) else np.append(ends, len(data))
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(ends) - 1, buffers)
