"""Rows of plain text files: paragraphs, apart by blank lines, one a row or several together."""

from collections.abc import Iterator, Sequence

from evertune.data.sources.chunk import RawRow
from evertune.data.sources.formats.text_file import SourceFile, describe_damage, is_damaged, open_text
from evertune.errors import DataError


def names(file: SourceFile) -> list[str]:
    """`text` alone.

    Raises:
        DataError: the file is empty or holds no text.
    """
    if next(_read_paragraphs(file), None) is None:
        raise DataError(f"{file.name}: there is no text in it; remove it, or write it again")
    return ["text"]


def rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """Each paragraph, with those after it until both together have `file.block` characters.

    Raises:
        DataError: the file is empty or cannot be read.
    """
    pending: list[str] = []
    problem = None
    for line, paragraph in _read_paragraphs(file):
        pending.append(paragraph)
        if is_damaged(paragraph):
            line_offset = next(index for index, text_line in enumerate(paragraph.split("\n")) if is_damaged(text_line))
            problem = problem or describe_damage(line + line_offset, file.encoding)
        if sum(map(len, pending)) >= file.block:
            yield _build_row(pending, problem, columns)
            pending = []
            problem = None
    if pending:
        yield _build_row(pending, problem, columns)


def _build_row(paragraphs: Sequence[str], problem: str | None, columns: Sequence[str]) -> RawRow:
    text = "\n\n".join(paragraphs)
    return RawRow(None, problem, text) if problem else RawRow([text] * len(columns))


def _read_paragraphs(file: SourceFile) -> Iterator[tuple[int, str]]:
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
