"""Open files as text, guess their encoding, and find the bytes that do not fit it."""

import codecs
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from evertune.errors import ConfigError, DataError

ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class SourceFile:
    """One file of a path source.

    Args:
        name: its name in messages and in the column `source`.
        format: `csv`, `tsv`, `jsonl`, `parquet`, `conll` or `text`.
        fields: column names of a CoNLL file.
        delimiter: delimiter of a CSV file; `auto`: see `csv.detect_delimiter`.
        block: minimum characters per row of plain text.
    """

    path: Path
    name: str
    format: str
    encoding: str = "utf-8"
    fields: tuple[str, ...] | None = None
    delimiter: str = "auto"
    block: int = 0


@contextlib.contextmanager
def open_text(file: SourceFile) -> Iterator[TextIO]:
    """Open a file for reading, with its line ends and without a byte order mark.

    An undecodable byte stays in the text as a surrogate (see `is_damaged`), so that only its row is refused.

    Raises:
        DataError: the file is empty, cannot be read, or cannot be split into lines in its encoding.
        ConfigError: the encoding does not exist.
    """
    try:
        if file.path.stat().st_size == 0:
            raise DataError(f"{file.name}: the file is empty; remove it, or write it again")
        newline = "\n" if file.format == "jsonl" else ""
        with file.path.open(encoding=find_codec(file.encoding), errors="surrogateescape", newline=newline) as stream:
            yield stream
    except UnicodeError as error:
        raise encoding_error(file) from error
    except OSError as error:
        raise DataError(f"{file.name}: cannot be read: {error.strerror}; check its path and permissions") from error


def find_codec(encoding: str) -> str:
    """Return the codec's name; for UTF-8 the codec that drops a byte order mark.

    Raises:
        ConfigError: the encoding does not exist.
    """
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise ConfigError(f"encoding: {encoding!r} is unknown; try utf-8, latin-1, cp1252 or utf-16") from None
    return "utf-8-sig" if name == "utf-8" else name


def guess_encoding(path: Path) -> str:
    """Return the likely encoding of a text file.

    It is ASCII; UTF-16 after a byte order mark; UTF-8 if at least half of the lines beyond ASCII are valid UTF-8, which
    text of another encoding hardly ever is; else cp1252, or latin-1.
    """
    with path.open("rb") as stream:
        if stream.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            return "utf-16"
        stream.seek(0)
        is_utf8 = [_is_encoded_as(line, "utf-8") for line in stream if not line.isascii()]
        if not is_utf8:
            return "ascii"
        if 2 * sum(is_utf8) >= len(is_utf8):
            return "utf-8"
        stream.seek(0)
        if all(_is_encoded_as(line, "cp1252") for line in stream):
            return "cp1252"
        return "latin-1"  # decodes any byte


def _is_encoded_as(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def is_damaged(text: str) -> bool:
    """Whether a text from `open_text` contains a byte that is not valid in its encoding."""
    return not text.isascii() and ESCAPED_BYTE.search(text) is not None


def describe_damage(line: int, encoding: str) -> str:
    """Return the problem of a row with bytes that are not valid in the encoding."""
    return f"line {line}: not valid {encoding}; {_suggest_encoding(encoding)}"


def encoding_error(file: SourceFile) -> DataError:
    """Return the error for a file whose beginning is not valid in its encoding."""
    return DataError(f"{file.name}: the file is not valid {file.encoding}; {_suggest_encoding(file.encoding)}")


def _suggest_encoding(encoding: str) -> str:
    other_encoding = "latin-1" if "utf" in find_codec(encoding) else "utf-8"
    return f"set `encoding: {other_encoding}` (or the right one) for this source, or save the file as UTF-8"
