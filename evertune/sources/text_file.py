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
class File:
    """One file of a path source.

    Args:
        name: what messages and the column `source` call it.
        format: `csv`, `tsv`, `jsonl`, `parquet` or `conll`.
        fields: names of a CoNLL file's columns.
    """

    path: Path
    name: str
    format: str
    encoding: str = "utf-8"
    fields: tuple[str, ...] | None = None


@contextlib.contextmanager
def open_text(file: File, strict: bool) -> Iterator[TextIO]:
    """Open a file for reading, line ends untouched, a byte order mark taken off.

    Args:
        strict: a wrong byte is an error; else it stays in the text as a surrogate (`damaged` finds it), so that one
            row can be reported and the others read.
    Raises:
        DataError: the file is empty or cannot be read, or a wrong byte was met.
        ConfigError: no such encoding.
    """
    try:
        if file.path.stat().st_size == 0:
            raise DataError(f"{file.name}: the file is empty; remove it, or write it again")
        errors = "strict" if strict else "surrogateescape"
        newline = "\n" if file.format == "jsonl" else ""
        with file.path.open(encoding=codec(file.encoding), errors=errors, newline=newline) as stream:
            yield stream
    except UnicodeError as error:
        raise encoding_error(file) from error
    except OSError as error:
        raise DataError(f"{file.name}: cannot be read: {error.strerror}; check its path and rights") from error


def codec(encoding: str) -> str:
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


def likely_encoding(path: Path) -> str:
    """UTF-8 where the bytes are valid UTF-8, UTF-16 where its mark opens the file, else a Western 8-bit encoding."""
    with path.open("rb") as stream:
        if stream.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            return "utf-16"
    for encoding in ("utf-8", "cp1252"):
        try:
            with path.open(encoding=encoding) as text:
                while text.read(1 << 20):
                    pass
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"  # it knows every byte


def damaged(text: str) -> bool:
    """Whether a text that was opened without `strict` holds a byte that its encoding does not know."""
    return not text.isascii() and ESCAPED_BYTE.search(text) is not None


def damage(line: int, encoding: str) -> str:
    """The problem of a row with wrong bytes."""
    return f"line {line}: not valid {encoding}; give the file's encoding, or save it as UTF-8"


def encoding_error(file: File) -> DataError:
    """The error for a file whose bytes are not in its encoding: where the first wrong byte stands, and what to do."""
    where = _first_wrong_byte(file)
    other = "latin-1" if "utf" in codec(file.encoding) else "utf-8"
    return DataError(
        f"{file.name}: {where} is not {file.encoding}; set `encoding: {other}` (or what it is) beside its path "
        "in data.sources, or save the file as UTF-8"
    )


def _first_wrong_byte(file: File) -> str:
    decoder = codecs.getincrementaldecoder(codec(file.encoding))()
    read, line = 0, 1
    with file.path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            try:
                decoder.decode(piece, final=read + len(piece) == file.path.stat().st_size)
            except UnicodeDecodeError as error:
                inside = len(piece) - len(error.object) + error.start  # the decoder may have held bytes back
                line += piece[: max(inside, 0)].count(b"\n")
                return f"byte {read + inside} (0x{error.object[error.start]:02x}, line {line})"
            except UnicodeError:  # UTF-16 without its mark
                break
            read += len(piece)
            line += piece.count(b"\n")
    return "its beginning"
