"""Rows of CoNLL column files: a word a line, a blank line after each sentence."""

from collections.abc import Iterator, Sequence

from evertune.data.sources.chunk import Raw
from evertune.data.sources.formats.cells import WORD
from evertune.data.sources.formats.text_file import File, damage, damaged, open_text
from evertune.errors import DataError

BLANK = " \t\r\n"


def names(file: File) -> list[str]:
    """The recipe's `fields`, else `tokens` for the first column, `tags` for the last and `columnN` between them.

    Raises:
        DataError: the file is empty or has no words.
    """
    if file.fields:
        return list(file.fields)
    for _, line in _lines(file):
        if line:
            between = [f"column{number}" for number in range(2, len(_split(line)))]
            return ["tokens", *between, "tags"] if len(_split(line)) > 1 else ["tokens"]
    raise DataError(f"{file.name}: there are no words in it; CoNLL files hold a word a line")


def rows(file: File, columns: Sequence[str]) -> Iterator[Raw]:
    """The named columns of each sentence; one with a wrong line is a problem.

    Raises:
        DataError: the file is empty or has no words.
    """
    header = names(file)
    places = [header.index(column) for column in columns]
    lines: list[str] = []
    problem = None
    for number, line in _lines(file):
        if line:
            lines.append(line)
            problem = problem or _problem(line, len(header), number, file)
        elif lines:
            yield Raw(None, problem, "\n".join(lines)) if problem else _sentence(lines, places)
            lines, problem = [], None


def _lines(file: File) -> Iterator[tuple[int, str]]:
    """Line numbers and lines; empty for a line between sentences, and once more at the end."""
    number = 0
    with open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            yield number, "" if line.startswith("-DOCSTART-") else line.strip(BLANK)
    yield number + 1, ""


def _split(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else WORD.findall(line)


def _problem(line: str, width: int, number: int, file: File) -> str | None:
    if damaged(line):
        return damage(number, file.encoding)
    found = len(_split(line))
    if found == width:
        return None
    return (
        f"line {number}: {found} columns where {width} are expected; mend the line, "
        "or name the columns in `fields` beside the path (blank lines end sentences)"
    )


def _sentence(lines: Sequence[str], places: Sequence[int]) -> Raw:
    words = [_split(line) for line in lines]
    return Raw([[word[place] for word in words] for place in places])
