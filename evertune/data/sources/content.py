"""Digests of files' contents; a file whose size and modification time are unchanged is not read again."""

import time
from pathlib import Path

from evertune.errors import DataError
from evertune.records import file_digest

FileCache = dict[str, list[int | str]]  # {name: [size, mtime_ns, digest]}
SETTLED = 2_000_000_000  # nanoseconds; a younger file may still change within one tick of the file system's clock


def digest_with_cache(path: Path, name: str, cache: FileCache) -> str:
    """Return the digest of a file's bytes.

    Args:
        name: key in the cache, and the file's name in messages.
        cache: `{name: [size, mtime_ns, digest]}`; updated in place.
    Raises:
        DataError: the file cannot be read.
    """
    state = path.stat()
    cached_entry = cache.get(name)
    if cached_entry and list(cached_entry[:2]) == [state.st_size, state.st_mtime_ns]:
        return str(cached_entry[2])
    try:
        content_digest = file_digest(path)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}; check its permissions") from error
    if time.time_ns() - state.st_mtime_ns > SETTLED:
        cache[name] = [state.st_size, state.st_mtime_ns, content_digest]
    return content_digest
