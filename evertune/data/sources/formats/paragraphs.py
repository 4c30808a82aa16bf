"""Read plain text files: paragraphs separated by blank lines, one or several to a row."""

from collections.abc import Iterator, Sequence

from evertune.data.sources.chunk import RawRow
from evertune.data.sources.formats.text_file import SourceFile, describe_damage, is_damaged, open_text
from evertune.errors import DataError


def read_column_names(file: SourceFile) -> list[str]:
    """Return the only column, `text`.

    Raises:
        DataError: the file is empty or has no text.
    """
    if next(_read_paragraphs(file), None) is None:
        raise DataError(f"{file.name}: the file has no text; remove it, or write it again")
    return ["text"]


def read_rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """Yield each paragraph, joined with those after it until the row has `file.block` characters.

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
    """Yield the number of each paragraph's first line, and its lines."""
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
