"""What an error means to a person, and the exit status that goes with it."""

import errno

from evertune.errors import EvertuneError
from evertune.secrets import hidden


def explain(error: BaseException) -> tuple[str, int]:
    """A message without a traceback, and the exit status."""
    for one in _chain(error):
        if isinstance(one, EvertuneError):
            return str(one), one.exit_status
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno == errno.ENOSPC:
            where = f" while writing {one.filename}" if one.filename else ""
            return f"the disk is full{where}; free some space and run again: it goes on from the last finished step", 3
    first = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {hidden(first[0])} (run `evertune --debug ...` for the whole traceback)", 1


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
