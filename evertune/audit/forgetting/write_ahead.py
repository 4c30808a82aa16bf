"""The intent to forget rows, on disk before the first row is removed, so that a crash can be recovered from.

`forgotten/intent.json` holds the texts that pages are searched for, until all is done. What remains is
`tombstones.json` and `gone.json`: keyed digests, batch and split of each row, so that the forgotten rows of a version
can always be counted.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import cast

from evertune.runs.up_to_date import INTENT
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

GONE = "gone.json"
# Keyed digest, batch that it came with, split, last version of the corpus that had it.
GoneRow = tuple[str, int, str, int]


@dataclass(frozen=True)
class Intent:
    """One request to forget rows.

    Args:
        mark: identifies the request.
        asked: number of given ids, groups and texts.
        digests: the tombstones, by kind.
        rows: number of row versions to remove, by table.
        gone: each row that was in the corpus.
        versions: row versions, to search token files for.
        texts: to search pages for.
        pieces: whether a piece of a text identifies it.
        pictures: digests of images, to search pages for.
    """

    mark: str
    time: str
    who: str
    reason: str
    asked: int
    digests: dict[str, list[str]]
    rows: dict[str, int]
    gone: list[GoneRow]
    versions: list[str] = field(repr=False)
    texts: list[str] = field(repr=False)
    pieces: bool = False
    pictures: list[str] = field(default_factory=list)


def write_intent(home: Home, intent: Intent) -> None:
    """Write the intent to disk.

    Raises:
        OSError: the disk is full or not writable.
    """
    write_json(home.forgotten / INTENT, asdict(intent))


def read_intent(home: Home) -> Intent | None:
    """Return the intent that is not completed; None without one."""
    stored = read_json(home.forgotten / INTENT)
    if stored is None:
        return None
    return Intent(**{**stored, "gone": [tuple(row) for row in stored["gone"]]})


def clear_intent(home: Home) -> None:
    """Remove the intent once it is completed, and any scratch file of it that a crash left."""
    for path in [home.forgotten / INTENT, *home.forgotten.glob(f".{INTENT}.*")]:
        path.unlink(missing_ok=True)


def add_gone_rows(home: Home, rows: Iterable[GoneRow]) -> None:
    """Record the rows that were removed from the corpus, each once.

    Raises:
        OSError: the disk is full or not writable.
    """
    rows_by_digest = {row[0]: row for row in _read_gone_rows(home)}
    rows_by_digest |= {row[0]: row for row in rows}
    write_json(home.forgotten / GONE, list(rows_by_digest.values()))


def count_lost_rows(home: Home, snapshot: int, batch: int, rows: Iterable[GoneRow] | None = None) -> dict[str, int]:
    """Return how many rows of a snapshot were forgotten, by split.

    Args:
        snapshot: version of the corpus.
        batch: number of the newest batch in it.
        rows: forgotten rows to count. Default: all that were ever forgotten.
    """
    counts: dict[str, int] = {}
    for _, first_batch, split, last_snapshot in _read_gone_rows(home) if rows is None else rows:
        if first_batch <= batch and snapshot <= last_snapshot:
            counts[split] = counts.get(split, 0) + 1
    return counts


def _read_gone_rows(home: Home) -> list[GoneRow]:
    return cast(list[GoneRow], read_json(home.forgotten / GONE) or [])  # as lists, which unpack alike
