"""Rows of plain text files: paragraphs, apart by blank lines, one a row or several together."""

from collections.abc import Iterator, Sequence

from evertune.data.sources.chunk import Raw
from evertune.data.sources.formats.text_file import File, damage, damaged, open_text
from evertune.errors import DataError


def names(file: File) -> list[str]:
    """`text` alone.

    Raises:
        DataError: the file is empty or holds no text.
    """
    if next(_paragraphs(file), None) is None:
        raise DataError(f"{file.name}: there is no text in it; remove it, or write it again")
    return ["text"]


def rows(file: File, columns: Sequence[str]) -> Iterator[Raw]:
    """Each paragraph, with those after it until both together have `file.block` characters.

    Raises:
        DataError: the file is empty or cannot be read.
    """
    held: list[str] = []
    problem = None
    for line, paragraph in _paragraphs(file):
        held.append(paragraph)
        if damaged(paragraph):
            inside = next(place for place, one in enumerate(paragraph.split("\n")) if damaged(one))
            problem = problem or damage(line + inside, file.encoding)
        if sum(map(len, held)) >= file.block:
            yield _row(held, problem, columns)
            held, problem = [], None
    if held:
        yield _row(held, problem, columns)


def _row(paragraphs: Sequence[str], problem: str | None, columns: Sequence[str]) -> Raw:
    text = "\n\n".join(paragraphs)
    return Raw(None, problem, text) if problem else Raw([text] * len(columns))


def _paragraphs(file: File) -> Iterator[tuple[int, str]]:
    """The number of the first line, and the lines, of each paragraph."""
    lines: list[str] = []
    number = 0
    with open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                lines.append(line.rstrip("\r\n"))
            elif lines:
                yield number - len(lines), "\n".join(lines)
                lines = []
    if lines:
        yield number - len(lines) + 1, "\n".join(lines)
