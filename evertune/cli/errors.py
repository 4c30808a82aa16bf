"""An error as a message for a person, with its exit status."""

import errno

from evertune.errors import EvertuneError
from evertune.runtime.secrets import hide_secrets

SQLITE_FULL = "database or disk is full"


def explain_error(error: BaseException) -> tuple[str, int]:
    """Return a message without a traceback, and the exit status."""
    causes = _collect_causes(error)
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return _disk_full_message(f" while writing {cause.filename}" if cause.filename else ""), 3
        if SQLITE_FULL in str(cause):
            return _disk_full_message(" while writing to a SQLite database"), 3
    for cause in causes:
        if isinstance(cause, EvertuneError):
            return str(cause), cause.exit_status
    first = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {hide_secrets(first[0])} (`evertune --debug ...` shows the traceback)", 1


def _disk_full_message(where: str) -> str:
    return f"the disk is full{where}; free some space and run again: the run continues after the last finished step"


def _collect_causes(error: BaseException | None) -> list[BaseException]:
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes
