"""Rows of JSON Lines files: one object a line."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from evertune.data.sources.chunk import RawRow
from evertune.data.sources.formats.cells import replace_surrogates
from evertune.data.sources.formats.text_file import SourceFile, describe_damage, is_damaged, open_text
from evertune.data.sources.tables import CHUNK
from evertune.errors import DataError


def names(file: SourceFile) -> list[str]:
    """The keys of the first 10,000 objects, in order of appearance.

    Raises:
        DataError: the file is empty, or none of its lines is an object.
    """
    keys: dict[str, None] = {}
    problem = None
    for _, _, value in itertools.islice(_read_values(file), CHUNK):
        if isinstance(value, dict):
            keys.update(dict.fromkeys(value))
        else:
            problem = problem or value
    if not keys:
        raise DataError(f"{file.name}: {problem or 'there are no objects in it'}")
    return list(keys)


def rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """The values of the named keys, line by line; a broken line is a problem.

    Raises:
        DataError: the file is empty or cannot be read.
    """
    for number, line, value in _read_values(file):
        if isinstance(value, str):
            yield RawRow(None, value, line)
            continue
        cells = [value.get(column) for column in columns]
        yield RawRow(cells, describe_damage(number, file.encoding), line) if is_damaged(line) else RawRow(cells)


def _read_values(file: SourceFile) -> Iterator[tuple[int, str, dict[str, Any] | str]]:
    """Each line with its number, and its object or what is wrong with it; blank lines are skipped."""
    with open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            if line := line.strip():
                yield number, line, _parse_line(line, number, file.encoding)


def _parse_line(line: str, number: int, encoding: str) -> dict[str, Any] | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        if is_damaged(line):
            return describe_damage(number, encoding)
        hint = "; this looks like one JSON array: write one object a line" if line[0] == "[" else ""
        return f"line {number}: not JSON ({error}){hint or '; mend or remove the line'}"
    if not isinstance(value, dict):
        return f"line {number}: holds a {type(value).__name__}; write one JSON object a line"
    if is_damaged(line) or "\\ud" in line or "\\uD" in line:
        return dict(replace_surrogates(value))
    return value
