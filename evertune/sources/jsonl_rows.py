"""Rows of JSON Lines files: one object a line."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from evertune.errors import DataError
from evertune.sources.cells import without_surrogates
from evertune.sources.piece import Raw
from evertune.sources.tables import CHUNK
from evertune.sources.text_file import File, damage, damaged, open_text


def names(file: File) -> list[str]:
    """The keys of the first 10,000 objects, in order of appearance.

    Raises:
        DataError: the file is empty, or none of its lines is an object.
    """
    found: dict[str, None] = {}
    for value in itertools.islice(_values(file, strict=False), CHUNK):
        if isinstance(value, dict):
            found.update(dict.fromkeys(value))
    if not found:
        problems = (value for value in _values(file, strict=True) if isinstance(value, str))
        told = next(problems, "there are no objects in it")
        raise DataError(f"{file.name}: {told}")
    return list(found)


def rows(file: File, columns: Sequence[str], strict: bool) -> Iterator[Raw]:
    """The values of the named keys, line by line; a broken line is a problem.

    Raises:
        DataError: a wrong byte, where `strict`.
    """
    for value in _values(file, strict):
        if isinstance(value, str):
            yield Raw(None, value)
        else:
            yield Raw([value.get(column) for column in columns])


def _values(file: File, strict: bool) -> Iterator[dict[str, Any] | str]:
    """The object of each line, or what is wrong with it; blank lines are skipped."""
    with open_text(file, strict) as stream:
        for number, line in enumerate(stream, 1):
            if damaged(line):
                yield damage(number, file.encoding)
            elif line.strip():
                yield _value(line, number)


def _value(line: str, number: int) -> dict[str, Any] | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        whole = "; this looks like one JSON array: write one object a line" if line.lstrip()[0] == "[" else ""
        return f"line {number}: not JSON ({error}){whole or '; mend or remove the line'}"
    if not isinstance(value, dict):
        return f"line {number}: holds a {type(value).__name__}; write one JSON object a line"
    if "\\ud" in line or "\\uD" in line:
        return dict(without_surrogates(value))
    return value
