"""Recognise forgotten rows by keyed digests alone: enough to keep them out, nothing to read.

`forgotten/key` is a secret of this home, `forgotten/tombstones.json` holds an HMAC-SHA256 (RFC 2104) of each id, group,
text or row version. Without the key nobody can test whether a text is among them.
"""

import hmac
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evertune.data.row_versions import list_own_columns
from evertune.data.text_matching import fold_text
from evertune.errors import DataError
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KINDS = ("id", "group", "text", "row")
KEY = "key"
STONES = "tombstones.json"


@dataclass(frozen=True)
class Tombstones:
    """Keyed digests of what was forgotten, by kind.

    Args:
        key: the home's secret; empty if nothing was ever forgotten.
        digests: by kind, see `KINDS`.
    """

    key: bytes
    digests: Mapping[str, frozenset[str]]

    def compute_digest(self, kind: str, value: str) -> str:
        """Return the keyed digest of a value."""
        return hmac.digest(self.key, f"{kind}:{value}".encode(), "sha256").hex()[:40]

    def find_forgotten(self, rows: "pa.Table") -> "np.ndarray":
        """Return a mask (rows,) of the rows that have a tombstone.

        Args:
            rows: with the columns of `row_versions.build_schema`.
        """
        import numpy as np

        is_forgotten = np.zeros(len(rows), dtype=bool)
        for kind, digests in self.digests.items():
            if digests and len(rows):
                is_forgotten |= [
                    value is not None and self.compute_digest(kind, value) in digests
                    for value in list_values(rows, kind)
                ]
        return is_forgotten

    def drop_forgotten(self, rows: "pa.Table") -> "pa.Table":
        """Return the rows that have no tombstone."""
        import pyarrow as pa

        if not any(self.digests.values()):
            return rows
        return rows.filter(pa.array(~self.find_forgotten(rows)))


def list_values(rows: "pa.Table", kind: str) -> list[str | None]:
    """Return by what each row is recognised under a kind; texts ignore case, punctuation and spaces."""
    if kind != "text":
        column_values: list[str | None] = rows["row_version" if kind == "row" else kind].to_pylist()
        return column_values
    inputs = rows[list_own_columns(rows.column_names)[0]].to_pylist()
    return [None if value is None else fold_text(to_plain_text(value)) for value in inputs]


def to_plain_text(value: str | Sequence[str | None]) -> str:
    """Return an input as one text; words are joined by spaces."""
    return value if isinstance(value, str) else " ".join(word or "" for word in value)


def load_tombstones(home: Home) -> Tombstones:
    """Return the tombstones of this model.

    Raises:
        DataError: the key is missing, so forgotten rows could not be recognised.
    """
    stored = read_json(home.forgotten / STONES) or {}
    path = home.forgotten / KEY
    if not path.exists() and any(stored.values()):
        raise DataError(
            f"{path} is missing. Without it forgotten rows cannot be recognised and would be ingested again. "
            "Restore it from a backup"
        )
    key = bytes.fromhex(path.read_text()) if path.exists() else b""
    return Tombstones(key, {kind: frozenset(stored.get(kind, ())) for kind in KINDS})


def load_with_key(home: Home) -> Tombstones:
    """Return the tombstones of this model, with a key, which is created if there is none."""
    path = home.forgotten / KEY
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{KEY}")
        scratch.write_text(secrets.token_hex(32))
        scratch.chmod(0o600)
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    return load_tombstones(home)


def add_digests(home: Home, digests: Mapping[str, Iterable[str]]) -> Tombstones:
    """Add digests to the stored ones and return all tombstones."""
    stored = load_tombstones(home).digests
    write_json(home.forgotten / STONES, {kind: sorted({*stored[kind], *digests.get(kind, ())}) for kind in KINDS})
    return load_tombstones(home)
