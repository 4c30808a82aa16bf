"""Rows of CoNLL column files: a word a line, a blank line after each sentence."""

from collections.abc import Iterator, Sequence

from evertune.data.sources.chunk import RawRow
from evertune.data.sources.formats.cells import WORD
from evertune.data.sources.formats.text_file import SourceFile, describe_damage, is_damaged, open_text
from evertune.errors import DataError

BLANK = " \t\r\n"


def names(file: SourceFile) -> list[str]:
    """The recipe's `fields`, else `tokens` for the first column, `tags` for the last and `columnN` between them.

    Raises:
        DataError: the file is empty or has no words.
    """
    if file.fields:
        return list(file.fields)
    for _, line in _read_lines(file):
        if line:
            middle_columns = [f"column{number}" for number in range(2, len(_split_line(line)))]
            return ["tokens", *middle_columns, "tags"] if len(_split_line(line)) > 1 else ["tokens"]
    raise DataError(f"{file.name}: there are no words in it; CoNLL files hold a word a line")


def rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """The named columns of each sentence; one with a wrong line is a problem.

    Raises:
        DataError: the file is empty or has no words.
    """
    header = names(file)
    column_indices = [header.index(column) for column in columns]
    lines: list[str] = []
    problem = None
    for number, line in _read_lines(file):
        if line:
            lines.append(line)
            problem = problem or _find_problem(line, len(header), number, file)
        elif lines:
            yield RawRow(None, problem, "\n".join(lines)) if problem else _build_sentence(lines, column_indices)
            lines = []
            problem = None


def _read_lines(file: SourceFile) -> Iterator[tuple[int, str]]:
    """Line numbers and lines; empty for a line between sentences, and once more at the end."""
    number = 0
    with open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            yield number, "" if line.startswith("-DOCSTART-") else line.strip(BLANK)
    yield number + 1, ""


def _split_line(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else WORD.findall(line)


def _find_problem(line: str, width: int, number: int, file: SourceFile) -> str | None:
    if is_damaged(line):
        return describe_damage(number, file.encoding)
    count = len(_split_line(line))
    if count == width:
        return None
    return (
        f"line {number}: {count} columns where {width} are expected; mend the line, "
        "or name the columns in `fields` beside the path (blank lines end sentences)"
    )


def _build_sentence(lines: Sequence[str], column_indices: Sequence[int]) -> RawRow:
    split_lines = [_split_line(line) for line in lines]
    return RawRow([[word[index] for word in split_lines] for index in column_indices])
