"""Read CSV files in blocks of lines: Arrow parses lines that are whole records, Python parses all other records."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from evertune.data.columns.strings import get_text_bytes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BLOCK = 1 << 22  # characters per block
WIDEST = 200  # columns; in a wider file Python parses every record
BLANK = r"^\r?\n?\z"
UNDECODABLE = (b"\xed\xb2", b"\xed\xb3")  # how the surrogate that `open_text` puts for an undecodable byte begins


class Record(NamedTuple):
    """One record of a CSV or TSV file.

    Args:
        line: number of its first line.
        text: its lines.
        cells: its cells, or a message why it cannot be parsed.
    """

    line: int
    text: str
    cells: list[str] | str


@dataclass(frozen=True)
class Block:
    """Consecutive records.

    Args:
        plain: the lines that are whole records, for Arrow to parse.
        odd: all other records.
        plain_before: how many plain records precede each odd one.
        start: number of the first record.
    """

    plain: "pa.Array"
    odd: list[Record]
    plain_before: list[int]
    start: int


class LineReader:
    """Reads the lines of a text in blocks, and single records that start inside a block.

    Args:
        stream: the text, from the next line on.
        number: number of the next line.
    """

    def __init__(self, stream: TextIO, number: int) -> None:
        self.stream = stream
        self.number = number
        self.block: Any = ()  # lines with their line ends, an Arrow array
        self.position = 0  # index of the next line in the block
        self.later_lines = deque[str]()  # lines after the block that were read and put back

    def next_block(self) -> bool:
        """Load the next lines into `block`; returns whether there are any."""
        text = "".join(self.later_lines) + self.stream.read(BLOCK) + self.stream.readline()
        self.later_lines.clear()
        self.block = _split_lines(text)
        self.position = 0
        return bool(text)

    def skip_lines(self, count: int) -> None:
        """Skip the next lines of the block."""
        self.position += count
        self.number += count

    def read_record(self, separator: str) -> Record | None:
        """Return the next record, which may continue after the block; None for a blank line.

        Only the first line of a record with wrong quotes is lost: a quote that is never closed must not swallow the
        rows after it.
        """
        record_lines = list[str]()
        start = self.number
        remaining = len(self.block) - self.position
        records = csv.reader(self._note_lines(record_lines), delimiter=separator, strict=True)
        try:
            cells: list[str] | str = next(records, [])
        except csv.Error as error:
            cells = explain_error(str(error))
            self.later_lines.extendleft(reversed(record_lines[max(1, remaining) :]))
            del record_lines[1:]
        self.position += min(len(record_lines), remaining)
        self.number += len(record_lines)
        return Record(start, "".join(record_lines).rstrip("\r\n"), cells) if cells else None

    def _note_lines(self, noted_lines: list[str]) -> Iterator[str]:
        """Yield the next lines, also those after the block, and append each to `noted_lines`."""
        for encoded_line in self.block[self.position :]:
            noted_lines.append(encoded_line.as_buffer().to_pybytes().decode("utf-8", "surrogatepass"))
            yield noted_lines[-1]
        while True:
            line = self.later_lines.popleft() if self.later_lines else self.stream.readline()
            if not line:
                return
            noted_lines.append(line)
            yield line


def read_blocks(stream: TextIO, number: int, separator: str, width: int) -> Iterator[Block]:
    """Yield the records of a text in blocks.

    Args:
        stream: the text after its header.
        number: number of the next line.
        width: number of columns in the header.
    """
    reader = LineReader(stream, number)
    start = 0
    while reader.next_block():
        block = _build_block(reader, separator, width, start)
        start += len(block.plain) + len(block.odd)
        yield block


def parse_cells(plain: "pa.Array", column_indices: Sequence[int], separator: str, width: int) -> "list[pa.Array]":
    """Return the columns of plain records at these indices; an empty cell is null.

    Args:
        plain: lines that are whole records.
        width: number of columns in the header.
    """
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
    columns = {}
    for name in needed_names:
        column = parsed_table[name].combine_chunks()
        columns[name] = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    return [columns[names[index]] for index in column_indices]


def explain_error(error: str) -> str:
    """Return what is wrong with a record and what to do about it, from a message of the csv module."""
    if error == "unexpected end of data":
        return 'a quote that opens here is never closed; close it, or double it ("") where it belongs to the text'
    if "expected after" in error:
        return 'text goes on after a closing quote; double the quotes ("") that belong to the text'
    return f"{error}; mend the line"


def _build_block(reader: LineReader, separator: str, width: int, start: int) -> Block:
    import numpy as np
    import pyarrow as pa

    is_plain, is_blank = _find_plain_lines(reader.block, separator, width)
    odd_records = list[Record]()
    plain_before = list[int]()
    swallowed_count = 0  # plain lines that turned out to be parts of odd records
    plain_counts = np.concatenate([[0], np.cumsum(is_plain)])
    for line_index in np.flatnonzero(~is_plain & ~is_blank).tolist():
        if line_index < reader.position:
            continue  # part of the previous odd record
        reader.skip_lines(line_index - reader.position)
        record = reader.read_record(separator)
        if record is not None:
            odd_records.append(record)
            plain_before.append(int(plain_counts[line_index]) - swallowed_count)
        swallowed_count += int(plain_counts[reader.position] - plain_counts[line_index])
        is_plain[line_index : reader.position] = False
    reader.skip_lines(len(reader.block) - reader.position)
    plain_lines = reader.block if is_plain.all() else reader.block.filter(pa.array(is_plain))
    return Block(plain_lines, odd_records, plain_before, start)


def _find_plain_lines(block: "pa.Array", separator: str, width: int) -> "tuple[np.ndarray, np.ndarray]":
    """Return masks of the lines that are whole records, whatever precedes them, and of the blank lines."""
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
    for byte in UNDECODABLE:
        is_plain &= ~np.array(pc.match_substring(block.cast(pa.binary()), byte))
    return is_plain & ~is_blank, is_blank


def _split_lines(text: str) -> "pa.Array":
    """Return the lines of a text with their line ends, split where `io` splits them."""
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
