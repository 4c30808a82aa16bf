"""A file as text: its encoding, and where in it the encoding breaks."""

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
        name: what messages and the column `source` call it.
        format: `csv`, `tsv`, `jsonl`, `parquet`, `conll` or `text`.
        fields: names of a CoNLL file's columns.
        delimiter: of a CSV file's cells; `auto`: see `csv_rows.delimiter`.
        block: least characters of a row of plain text.
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
    """Open a file for reading, line ends untouched, a byte order mark taken off.

    A wrong byte stays in the text as a surrogate (`damaged` finds it), so that one row is refused and the others read.

    Raises:
        DataError: the file is empty or cannot be read, or no line can be told from another in its encoding.
        ConfigError: no such encoding.
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
        raise DataError(f"{file.name}: cannot be read: {error.strerror}; check its path and rights") from error


def find_codec(encoding: str) -> str:
    """The codec's name; UTF-8 becomes the one that drops a byte order mark.

    Raises:
        ConfigError: no such encoding.
    """
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise ConfigError(
            f"encoding: no encoding is called {encoding!r}; try utf-8, latin-1, cp1252 or utf-16"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


def guess_encoding(path: Path) -> str:
    """ASCII, UTF-16 if its mark opens the file, UTF-8 if most lines beyond ASCII are, else a Western 8-bit encoding.

    Text of another encoding is hardly ever valid UTF-8: a few bad lines in a UTF-8 file tell nothing of the others.
    """
    with path.open("rb") as stream:
        if stream.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            return "utf-16"
        stream.seek(0)
        valid = [_is_encoded_as(line, "utf-8") for line in stream if not line.isascii()]
        if not valid:
            return "ascii"
        if 2 * sum(valid) >= len(valid):
            return "utf-8"
        stream.seek(0)
        return (
            "cp1252" if all(_is_encoded_as(line, "cp1252") for line in stream) else "latin-1"
        )  # which knows every byte


def _is_encoded_as(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def is_damaged(text: str) -> bool:
    """Whether a text from `open_text` holds a byte that its encoding does not know."""
    return not text.isascii() and ESCAPED_BYTE.search(text) is not None


def describe_damage(line: int, encoding: str) -> str:
    """The problem of a row with wrong bytes."""
    return f"line {line}: not valid {encoding}; {_suggest_encoding(encoding)}"


def encoding_error(file: SourceFile) -> DataError:
    """The error for a file of which nothing can be read in its encoding."""
    return DataError(f"{file.name}: its beginning is not {file.encoding}; {_suggest_encoding(file.encoding)}")


def _suggest_encoding(encoding: str) -> str:
    other_encoding = "latin-1" if "utf" in find_codec(encoding) else "utf-8"
    return (
        f"set `encoding: {other_encoding}` (or what it is) beside the path in data.sources, or save the file as UTF-8"
    )
