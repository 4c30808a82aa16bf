"""Read CoNLL column files: one word per line, a blank line after each sentence."""

from collections.abc import Iterator, Sequence

from evertune.data.sources.chunk import RawRow
from evertune.data.sources.formats.cells import WORD
from evertune.data.sources.formats.text_file import SourceFile, describe_damage, is_damaged, open_text
from evertune.errors import DataError

BLANK = " \t\r\n"


def read_column_names(file: SourceFile) -> list[str]:
    """Return the recipe's `fields`, else `tokens` for the first column, `tags` for the last and `columnN` between.

    Raises:
        DataError: the file is empty or has no words.
    """
    if file.fields:
        return list(file.fields)
    for _, line in _read_lines(file):
        if line:
            count = len(_split_line(line))
            middle_columns = [f"column{number}" for number in range(2, count)]
            return ["tokens", *middle_columns, "tags"] if count > 1 else ["tokens"]
    raise DataError(f"{file.name}: the file has no words; a CoNLL file has one word per line")


def read_rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """Yield the named columns of each sentence; a sentence with a wrong line has a problem.

    Raises:
        DataError: the file is empty or has no words.
    """
    header = read_column_names(file)
    column_indices = [header.index(column) for column in columns]
    lines: list[str] = []
    problem = None
    for number, line in _read_lines(file):
        if line:
            lines.append(line)
            problem = problem or _find_problem(line, len(header), number, file)
        elif lines:
            if problem:
                yield RawRow(None, problem, "\n".join(lines))
            else:
                yield _build_sentence(lines, column_indices)
            lines = []
            problem = None


def _read_lines(file: SourceFile) -> Iterator[tuple[int, str]]:
    """Yield line numbers and lines; a line is empty between sentences, and once more at the end."""
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
        f"line {number}: expected {width} columns, found {count}; mend the line, "
        "or name the columns in `fields` of this source (blank lines end sentences)"
    )


def _build_sentence(lines: Sequence[str], column_indices: Sequence[int]) -> RawRow:
    split_lines = [_split_line(line) for line in lines]
    return RawRow([[word[index] for word in split_lines] for index in column_indices])
