"""What an error means to a person, and the exit status that goes with it."""

import errno

from evertune.errors import EvertuneError
from evertune.runtime.secrets import hidden

SQLITE_FULL = "database or disk is full"


def explain(error: BaseException) -> tuple[str, int]:
    """A message without a traceback, and the exit status."""
    chain = _chain(error)
    for one in chain:
        if isinstance(one, OSError) and one.errno == errno.ENOSPC:
            return _full(f" while writing {one.filename}" if one.filename else ""), 3
        if SQLITE_FULL in str(one):
            return _full(" while writing to a SQLite database"), 3
    for one in chain:
        if isinstance(one, EvertuneError):
            return str(one), one.exit_status
    first = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {hidden(first[0])} (run `evertune --debug ...` for the whole traceback)", 1


def _full(where: str) -> str:
    return f"the disk is full{where}; free some space and run again: it goes on from the last finished step"


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
