"""Read JSON Lines files: one object per line."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import cast

from evertune.data.sources.chunk import RawRow
from evertune.data.sources.formats.cells import replace_surrogates
from evertune.data.sources.formats.text_file import SourceFile, describe_damage, is_damaged, open_text
from evertune.data.sources.tables import CHUNK
from evertune.errors import DataError


def read_column_names(file: SourceFile) -> list[str]:
    """Return the keys of the first 10,000 objects, in order of appearance.

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
        raise DataError(f"{file.name}: {problem or 'the file has no JSON objects'}")
    return list(keys)


def read_rows(file: SourceFile, columns: Sequence[str]) -> Iterator[RawRow]:
    """Yield the values of the named keys, line by line; a broken line has a problem.

    Raises:
        DataError: the file is empty or cannot be read.
    """
    for number, line, value in _read_values(file):
        if isinstance(value, str):
            yield RawRow(None, value, line)
            continue
        cells = [value.get(column) for column in columns]
        if is_damaged(line):
            yield RawRow(cells, describe_damage(number, file.encoding), line)
        else:
            yield RawRow(cells)


def _read_values(file: SourceFile) -> Iterator[tuple[int, str, dict[str, object] | str]]:
    """Yield each line's number, text, and object or a message why it has none; blank lines are skipped."""
    with open_text(file) as stream:
        for number, raw_line in enumerate(stream, 1):
            line = raw_line.strip()
            if line:
                yield number, line, _parse_line(line, number, file.encoding)


def _parse_line(line: str, number: int, encoding: str) -> dict[str, object] | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        if is_damaged(line):
            return describe_damage(number, encoding)
        is_array = line[0] == "["
        hint = "this looks like one JSON array: write one object per line" if is_array else "mend or remove the line"
        return f"line {number}: not JSON ({error}); {hint}"
    if not isinstance(value, dict):
        return f"line {number}: expected a JSON object, found {type(value).__name__}; write one object per line"
    if is_damaged(line) or "\\ud" in line or "\\uD" in line:
        return dict(cast("dict[str, object]", replace_surrogates(value)))
    return value
