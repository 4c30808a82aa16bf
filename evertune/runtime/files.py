"""Files that are whole after a crash: atomic writes, appended JSON lines, removal of leftover scratch files."""

import contextlib
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any, BinaryIO

MAX_INDENTED = 20_000  # characters of a JSON file that is indented, for people
STALE_SECONDS = 86_400  # age at which a scratch file belongs to a killed process


def write_atomic(path: Path, text: str, mode: int = 0o666) -> None:
    """Write `text` so that after a crash at any moment, and for any reader, the file is the old or the new one, whole.

    Args:
        mode: permissions of the file from its first byte on, reduced by the umask.
    Raises:
        OSError: the disk is full or not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON, atomically; a long value on one line, since indenting takes Python ten times as long.

    Raises:
        OSError: the disk is full or not writable.
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= MAX_INDENTED:
        text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
    write_atomic(path, text + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON in `path`; None if there is no such file.

    Raises:
        ValueError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def append_json(path: Path, value: object) -> None:
    """Append a line of JSON; it is on the disk before the call returns.

    If a crash or a full disk cut the last line short, it is ended first, so that the new line stays readable.

    Raises:
        OSError: the disk is full or not writable.
    """
    with path.open("ab+") as file:
        if not _ends_with_newline(file):
            file.write(b"\n")
        file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_with_newline(file: BinaryIO) -> bool:
    """Return whether the file is empty or its last line is whole."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read_json_lines(path: Path) -> list[Any]:
    """Return the values of all whole lines, oldest first; empty if there is no such file."""
    return parse_json_lines(path.read_bytes()) if path.exists() else []


def parse_json_lines(lines: bytes) -> list[object]:
    """Return the values of all lines that are whole JSON."""
    values: list[object] = []
    for line in lines.splitlines():
        with contextlib.suppress(ValueError):  # cut short by a crash; what it recorded was repeated or repaired
            values.append(json.loads(line))
    return values


def sweep_files(folder: Path, pattern: str) -> None:
    """Remove files that match the pattern and were left by processes killed while they wrote."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()
