"""The key of the Prefect server of `evertune up`: created once for a home, and readable by its owner alone.

Whoever can reach the server can make the worker run a command, so every request must carry the key.
"""

import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import RegistryError
from evertune.runtime.files import write_atomic

if TYPE_CHECKING:
    from evertune.runtime.home import Home

SERVER_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
CLIENT_VARIABLE = "PREFECT_API_AUTH_STRING"
USER = "evertune"  # Prefect's keys have the form user:password
WELL_FORMED = re.compile(r"[!-~]{20,}")
OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class ServerKey:
    """A key.

    Args:
        text: user and password.
        source: file or variable where a person finds it.
        renewed: why an older key was replaced.
    """

    text: str = field(repr=False)
    source: str
    renewed: str | None = None


def new_key() -> str:
    """Return a random key."""
    return f"{USER}:{secrets.token_urlsafe(32)}"


def ensure_key(home: "Home") -> ServerKey:
    """Return PREFECT_SERVER_API_AUTH_STRING, or else the key of a home, which is created if it is missing.

    A file that others could read, or that holds no key, is replaced.

    Raises:
        RegistryError: the file belongs to another user, is not a plain file, or cannot be read or protected.
    """
    if own := os.environ.get(SERVER_VARIABLE):
        return ServerKey(own, SERVER_VARIABLE)
    path = key_file(home)
    with home.lock("home"):
        renewed = _find_flaw(path)
        if renewed or not path.exists():
            write_atomic(path, new_key() + "\n", mode=0o600)
        if flaw := _find_flaw(path):
            raise RegistryError(
                f"{path}: a new key was written, but {flaw}; put the home on a file system "
                "that keeps permissions (EVERTUNE_HOME)"
            )
        return ServerKey(path.read_text(encoding="ascii").strip(), str(path), renewed)


def key_file(home: "Home") -> Path:
    """Return the file of a home's key."""
    return home.root / "prefect-key"


def _find_flaw(path: Path) -> str | None:
    """Return why the key in a file must not be used any more, or None if it is good or there is no file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise RegistryError(f"{path}: the key of the Prefect server must be a plain file; move it away")
    if status.st_uid != os.geteuid():
        raise RegistryError(
            f"{path}: the key of the Prefect server belongs to another user; start `evertune up` as that user, "
            "remove the file, or name a home of your own with EVERTUNE_HOME"
        )
    if status.st_mode & OTHERS:
        return "other users could read it"
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise RegistryError(
            f"{path}: the key of the Prefect server cannot be read ({error.strerror}); remove the file, and the next "
            "`evertune up` makes a new one"
        ) from error
    return None if WELL_FORMED.fullmatch(text.strip()) else "it held no complete key"
