"""Records of TSV files: a line each, whatever quotes stand in it, unless the quotes clearly hold a cell together."""

import re
from collections import deque
from collections.abc import Iterator

CELL = re.compile(r'(?:\A|\t)("(?:[^"]|"")*"(?=\t|\Z)|[^\t]*)')
QUOTED = re.compile(r'"(?:[^"]|"")*"')
END = re.compile(r'(?:[^"]|"")*"')  # of a quoted cell that began on an earlier line


def records(stream: Iterator[str]) -> Iterator[tuple[int, str, list[str]]]:
    """First line, text and cells of each record; blank lines are skipped.

    Many TSV files know no quoting: a text may begin with a quote that another one, rows later, seems to close. So a
    quote is a sign like any other, unless its cell closes on the same line, or lines make up the header's number of
    cells only together.
    """
    start, width, again = 1, 0, deque[str]()
    while (line := _next(again, stream)) is not None:
        more = _continuation(line, width, again, stream)
        text = "".join([line, *more]).rstrip("\r\n")
        if text:
            cells = _cells(text, width)
            width = width or len(cells)
            yield start, text, cells
        start += 1 + len(more)


def _next(again: deque[str], stream: Iterator[str]) -> str | None:
    return again.popleft() if again else next(stream, None)


def _cells(text: str, width: int) -> list[str]:
    cells = text.split("\t")
    if len(cells) != width and len(with_tabs := CELL.findall(text)) == width:
        cells = with_tabs
    return [cell[1:-1].replace('""', '"') if QUOTED.fullmatch(cell) else cell for cell in cells]


def _continuation(line: str, width: int, again: deque[str], stream: Iterator[str]) -> list[str]:
    """The next lines, as far as they end a quoted cell that opens as the last one of `line`."""
    cells = line.rstrip("\r\n").split("\t")
    if width < 2 or len(cells) > width or not cells[-1].startswith('"') or QUOTED.fullmatch(cells[-1]):
        return []
    more = []
    while (after := _next(again, stream)) is not None:
        more.append(after)
        inside, *rest = after.rstrip("\r\n").split("\t")
        if END.fullmatch(inside) and len(cells) + len(rest) == width:
            return more
        if rest or END.fullmatch(inside):
            break
    again.extendleft(reversed(more))
    return []
