"""Read TSV files: one record per line, whatever quotes it contains, unless the quotes clearly enclose a cell."""

import re
from collections import deque
from collections.abc import Iterator

CELL = re.compile(r'(?:\A|\t)("(?:[^"]|"")*"(?=\t|\Z)|[^\t]*)')
QUOTED = re.compile(r'"(?:[^"]|"")*"')
END = re.compile(r'(?:[^"]|"")*"')  # the end of a quoted cell that began on an earlier line


def read_records(stream: Iterator[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the number of the first line, the text and the cells of each record; blank lines are skipped.

    Many TSV files have no quoting: a text may begin with a quote that another one, rows later, seems to close. So a
    quote is an ordinary character unless its cell closes on the same line, or only several lines together have the
    header's number of cells.
    """
    start = 1
    width = 0
    reread_lines = deque[str]()
    while True:
        line = _next_line(reread_lines, stream)
        if line is None:
            return
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
    if len(cells) != width:
        cells_with_tabs = CELL.findall(text)
        cells = cells_with_tabs if len(cells_with_tabs) == width else cells
    return [cell[1:-1].replace('""', '"') if QUOTED.fullmatch(cell) else cell for cell in cells]


def _read_continuation(line: str, width: int, reread_lines: deque[str], stream: Iterator[str]) -> list[str]:
    """Return the next lines that end a quoted cell which opens at the end of `line`, or none."""
    cells = line.rstrip("\r\n").split("\t")
    if width < 2 or len(cells) > width or not cells[-1].startswith('"') or QUOTED.fullmatch(cells[-1]):
        return []
    continuation = []
    while True:
        next_line = _next_line(reread_lines, stream)
        if next_line is None:
            break
        continuation.append(next_line)
        first_cell, *other_cells = next_line.rstrip("\r\n").split("\t")
        if END.fullmatch(first_cell) and len(cells) + len(other_cells) == width:
            return continuation
        if other_cells or END.fullmatch(first_cell):
            break
    reread_lines.extendleft(reversed(continuation))
    return []
