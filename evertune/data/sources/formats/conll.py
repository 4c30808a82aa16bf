"""Read CoNLL column files: one word per line, a blank line after each sentence."""

import re
from collections.abc import Iterator, Sequence

from evertune.data.sources.chunk import RawRow
from evertune.data.sources.formats.cells import WORD
from evertune.data.sources.formats.text_file import SourceFile, describe_damage, is_damaged, open_text
from evertune.errors import DataError

BLANK = " \t\r\n"
COMMENT = re.compile(r"# |#(begin|end) document\b")  # of CoNLL-U, GUM, MultiCoNER; of CoNLL-2012
TAG = re.compile(r"O|[BIESLUM][-_]\S+")


def read_column_names(file: SourceFile) -> list[str]:
    """Return the recipe's `fields`, else `tokens` for the first column, `tags` for the last and `columnN` between.

    Raises:
        DataError: the file is empty or has no words.
    """
    if file.fields:
        return list(file.fields)
    count = len(_split_line(_find_first_word(file)))
    middle_columns = [f"column{number}" for number in range(2, count)]
    return ["tokens", *middle_columns, "tags"] if count > 1 else ["tokens"]


def read_rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """Yield the named columns of each sentence; a sentence with a wrong line has a problem.

    Comments before the first word of a sentence are left out (see `_is_comment`).

    Raises:
        DataError: the file is empty or has no words.
    """
    header = read_column_names(file)
    column_indices = [header.index(column) for column in columns]
    known_cells = _collect_cells(file, len(header))
    lines: list[str] = []
    problem = None
    for number, line in _read_lines(file):
        if not lines and _is_comment(line, len(header), known_cells):
            continue
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


def _find_first_word(file: SourceFile) -> str:
    """Return the first line that is surely no comment; else the first line, such as `# O` of a file without others.

    Raises:
        DataError: the file is empty or has no words.
    """
    first_line = None
    for _, line in _read_lines(file):
        if line and not COMMENT.match(line):
            return line
        first_line = first_line or line
    if not first_line:
        raise DataError(f"{file.name}: the file has no words; a CoNLL file has one word per line")
    return first_line


def _collect_cells(file: SourceFile, width: int) -> list[set[str]]:
    """Return the distinct cells of each column after the first, from lines that are surely no comments.

    The cells stay empty if no line could be both a word and a comment.
    """
    known_cells: list[set[str]] = [set() for _ in range(width - 1)]
    if not any(COMMENT.match(line) and len(_split_line(line)) == width for _, line in _read_lines(file)):
        return known_cells
    for _, line in _read_lines(file):
        if line and not COMMENT.match(line):
            for column_cells, cell in zip(known_cells, _split_line(line)[1:], strict=False):
                column_cells.add(cell)
    return known_cells


def _is_comment(line: str, width: int, known_cells: Sequence[set[str]]) -> bool:
    """Whether a line before the first word of a sentence is a comment, such as `# newdoc`.

    A line with the file's number of columns is a word `#` if its last cell looks like a tag, or any cell after the
    first stands in its column elsewhere in the file.

    Args:
        width: number of the file's columns.
        known_cells: as `_collect_cells` returns them.
    """
    if not COMMENT.match(line):
        return False
    cells = _split_line(line)
    if len(cells) != width:
        return True
    is_known = any(cell in column_cells for cell, column_cells in zip(cells[1:], known_cells, strict=True))
    return not (is_known or TAG.fullmatch(cells[-1]))


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
