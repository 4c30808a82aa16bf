"""Files that are whole after a crash: written atomically, JSON lines appended, scratch files swept."""

import contextlib
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

READ_BY_PEOPLE = 20_000  # characters of a JSON file


FORGOTTEN = 86_400  # seconds after which a scratch file is that of a process that was killed


def write_atomic(path: Path, text: str, mode: int = 0o666) -> None:
    """Write `text` so that a reader, or a crash at any moment, sees the old file or the new one, whole.

    Args:
        mode: permissions of the file from its first byte on, less those that the umask takes away.
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


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically; a long one in one line, since indenting takes Python ten times as long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= READ_BY_PEOPLE:
        text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
    write_atomic(path, text + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`, or None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def append_json(path: Path, value: Any) -> None:
    """Add a line of JSON, on the disk before the call returns.

    A crash, or a full disk, may have cut the last line short: that is ended first, so that this one stands alone.

    Raises:
        OSError: the disk is full or not writable.
    """
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")
        file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_json_lines(path: Path) -> list[Any]:
    """The values of all whole lines, oldest first; none where there is no such file."""
    return parse_json_lines(path.read_bytes()) if path.exists() else []


def parse_json_lines(lines: bytes) -> list[Any]:
    """The values of all whole lines."""
    values = []
    for line in lines.splitlines():
        with contextlib.suppress(ValueError):  # cut short; what it told of was repeated or repaired
            values.append(json.loads(line))
    return values


def sweep_files(folder: Path, pattern: str) -> None:
    """Remove the files of a pattern that processes left behind which were killed while they wrote."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > FORGOTTEN:
                path.unlink()
