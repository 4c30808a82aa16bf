"""CSV files by blocks of lines: a line that is a record by itself is Arrow's to read, any other one is Python's."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from evertune.data.columns.strings import contents

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 22  # characters that are read at once
WIDEST = 200  # columns; in a wider file every record is Python's
BLANK = r"^\r?\n?\z"
UNKNOWN = (b"\xed\xb2", b"\xed\xb3")  # how a byte that the encoding does not know begins, as `open_text` leaves it

Odd = tuple[int, str, list[str] | str]  # first line, text and cells of a record, or what is wrong with it


@dataclass(frozen=True)
class Block:
    """Records that follow each other.

    Args:
        plain: the lines that are records by themselves.
        odd: the others; places: before which of the plain ones each of them stands.
        start: number of the first record.
    """

    plain: "pa.Array"
    odd: list[Odd]
    places: list[int]
    start: int


class Lines:
    """The lines of a text from here on, by blocks.

    Args:
        number: of the next line.
    """

    def __init__(self, stream: TextIO, number: int) -> None:
        self.stream, self.number = stream, number
        self.block: Any = ()  # lines with their ends
        self.at = 0  # the next one of them
        self.behind = deque[str]()  # lines behind the block that were taken and put back

    def next_block(self) -> bool:
        """Whether there are more lines; they stand in `block` then."""
        text = "".join(self.behind) + self.stream.read(BLOCK) + self.stream.readline()
        self.behind.clear()
        self.block, self.at = _cut(text), 0
        return bool(text)

    def skip(self, count: int) -> None:
        """Go on behind some lines of the block."""
        self.at += count
        self.number += count

    def record(self, separator: str) -> Odd | None:
        """The next record; None where a line is blank.

        Of a record whose quotes are wrong only the first line is given up: a quote that is never closed must not
        swallow the rows after it.
        """
        taken, start, left = list[str](), self.number, len(self.block) - self.at
        try:
            found: list[str] | str = next(csv.reader(self._taken(taken), delimiter=separator, strict=True), [])
        except csv.Error as error:
            found = explained(str(error))
            self.behind.extendleft(reversed(taken[max(1, left) :]))
            del taken[1:]
        self.at += min(len(taken), left)
        self.number += len(taken)
        return (start, "".join(taken).rstrip("\r\n"), found) if found else None

    def _taken(self, taken: list[str]) -> Iterator[str]:
        """The lines from here on, each noted in `taken`."""
        for line in self.block[self.at :]:
            taken.append(line.as_buffer().to_pybytes().decode("utf-8", "surrogatepass"))
            yield taken[-1]
        while line := self.behind.popleft() if self.behind else self.stream.readline():
            taken.append(line)
            yield line


def blocks(stream: TextIO, number: int, separator: str, width: int) -> Iterator[Block]:
    """The records of a text that stands behind its header.

    Args:
        number: of the next line.
        width: columns of the header.
    """
    lines, start = Lines(stream, number), 0
    while lines.next_block():
        block = _block(lines, separator, width, start)
        start += len(block.plain) + len(block.odd)
        yield block


def cells(plain: "pa.Array", places: Sequence[int], separator: str, width: int) -> "list[pa.Array]":
    """The cells of plain records in the named places; an empty one is null."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as arrow_csv

    if not len(plain):
        return [pa.array([], pa.string()) for _ in places]
    names = [str(place) for place in range(width)]
    wanted = [names[place] for place in dict.fromkeys(places)]
    data = pa.py_buffer(contents(plain)[0])
    read = arrow_csv.read_csv(
        pa.BufferReader(data),
        arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
        arrow_csv.ParseOptions(delimiter=separator),
        arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, strings_can_be_null=False
        ),
    )
    columns = {name: read[name].combine_chunks() for name in wanted}
    filled = {name: pc.if_else(pc.equal(one, ""), pa.scalar(None, pa.string()), one) for name, one in columns.items()}
    return [filled[names[place]] for place in places]


def explained(error: str) -> str:
    """What is wrong with a record, and what to do."""
    if error == "unexpected end of data":
        return 'a quote that opens here is never closed; close it, or double it ("") where it belongs to the text'
    if "expected after" in error:
        return 'text goes on after a closing quote; double the quotes ("") that belong to the text'
    return f"{error}; mend the line"


def _block(lines: Lines, separator: str, width: int, start: int) -> Block:
    import numpy as np
    import pyarrow as pa

    plain, blank = _plain(lines.block, separator, width)
    odd, places, dropped = list[Odd](), list[int](), 0
    before = np.concatenate([[0], np.cumsum(plain)])
    for at in np.flatnonzero(~plain & ~blank).tolist():
        if at < lines.at:
            continue  # it belongs to the record before
        lines.skip(at - lines.at)
        if found := lines.record(separator):
            odd.append(found)
            places.append(int(before[at]) - dropped)
        dropped += int(before[lines.at] - before[at])
        plain[at : lines.at] = False
    lines.skip(len(lines.block) - lines.at)
    return Block(lines.block if plain.all() else lines.block.filter(pa.array(plain)), odd, places, start)


def _plain(block: "pa.Array", separator: str, width: int) -> "tuple[Any, Any]":
    """Which lines are records by themselves, whatever stands before them, and which are blank."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    blank = np.array(pc.match_substring_regex(block, BLANK))
    if width > WIDEST or not separator.isascii():
        return np.zeros(len(block), dtype=bool), blank
    sign = re.escape(separator)
    cell = f'(?:[^"{sign}\\r\\n]*|"(?:[^"\\r\\n]|"")*")'
    record = f"^{cell}(?:{sign}{cell}){{{width - 1}}}\\r?\\n?\\z"
    plain = np.array(pc.match_substring_regex(block, record))
    for byte in UNKNOWN:
        plain &= ~np.array(pc.match_substring(block.cast(pa.binary()), byte))
    return plain & ~blank, blank


def _cut(text: str) -> "pa.Array":
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
