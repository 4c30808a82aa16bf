"""Records of TSV files: a line each, whatever quotes stand in it, unless the quotes clearly hold a cell together."""

import re
from collections import deque
from collections.abc import Iterator

CELL = re.compile(r'(?:\A|\t)("(?:[^"]|"")*"(?=\t|\Z)|[^\t]*)')
QUOTED = re.compile(r'"(?:[^"]|"")*"')
END = re.compile(r'(?:[^"]|"")*"')  # of a quoted cell that began on an earlier line


def read_records(stream: Iterator[str]) -> Iterator[tuple[int, str, list[str]]]:
    """First line, text and cells of each record; blank lines are skipped.

    Many TSV files know no quoting: a text may begin with a quote that another one, rows later, seems to close. So a
    quote is a sign like any other, unless its cell closes on the same line, or lines make up the header's number of
    cells only together.
    """
    start = 1
    width = 0
    reread_lines = deque[str]()
    while (line := _next_line(reread_lines, stream)) is not None:
        continuation = _read_continuation(line, width, reread_lines, stream)
        text = "".join([line, *continuation]).rstrip("\r\n")
        if text:
            cells = _split_cells(text, width)
            width = width or len(cells)
            yield start, text, cells
        start += 1 + len(continuation)


def _next_line(reread_lines: deque[str], stream: Iterator[str]) -> str | None:
    return reread_lines.popleft() if reread_lines else next(stream, None)


def _split_cells(text: str, width: int) -> list[str]:
    cells = text.split("\t")
    if len(cells) != width and len(with_tabs := CELL.findall(text)) == width:
        cells = with_tabs
    return [cell[1:-1].replace('""', '"') if QUOTED.fullmatch(cell) else cell for cell in cells]


def _read_continuation(line: str, width: int, reread_lines: deque[str], stream: Iterator[str]) -> list[str]:
    """The next lines, as far as they end a quoted cell that opens as the last one of `line`."""
    cells = line.rstrip("\r\n").split("\t")
    if width < 2 or len(cells) > width or not cells[-1].startswith('"') or QUOTED.fullmatch(cells[-1]):
        return []
    continuation = []
    while (next_line := _next_line(reread_lines, stream)) is not None:
        continuation.append(next_line)
        first_cell, *other_cells = next_line.rstrip("\r\n").split("\t")
        if END.fullmatch(first_cell) and len(cells) + len(other_cells) == width:
            return continuation
        if other_cells or END.fullmatch(first_cell):
            break
    reread_lines.extendleft(reversed(continuation))
    return []
