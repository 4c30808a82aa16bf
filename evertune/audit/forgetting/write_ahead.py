"""What is to be forgotten, written down before the first row goes: a process that is killed leaves work to be finished.

`forgotten/intent.json` holds the texts that pages are searched for, until all is done. What stays is `tombstones.json`
and `gone.json`: keyed digests, batch and split of each row, so that a version's rows can be counted for ever.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from evertune.runs.up_to_date import INTENT
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home

GONE = "gone.json"
GoneRow = tuple[
    str, int, str, int
]  # keyed digest, batch that it came with, split, last version of the corpus that had it


@dataclass(frozen=True)
class Intent:
    """One act of forgetting.

    Args:
        mark: names the act; asked: how many ids, groups and texts were given.
        digests: the tombstones, by kind.
        rows: how many row versions go, by place.
        gone: each row that stood in the corpus.
        versions: row versions, for the token files; texts: for the pages.
        pieces: whether a piece of a text tells it; pictures: digests of pictures, for the pages.
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
    """Keep it until it is done."""
    path = home.forgotten / INTENT
    write_json(path, asdict(intent))


def read_intent(home: Home) -> Intent | None:
    """The one that was begun, if there is one."""
    stored = read_json(home.forgotten / INTENT)
    return None if stored is None else Intent(**{**stored, "gone": [tuple(row) for row in stored["gone"]]})


def clear_intent(home: Home) -> None:
    """It is done; nor does what a crash left of it hold a text."""
    for path in [home.forgotten / INTENT, *home.forgotten.glob(f".{INTENT}.*")]:
        path.unlink(missing_ok=True)


def add_gone_rows(home: Home, rows: Iterable[GoneRow]) -> None:
    """Remember the rows that the corpus has lost, each once."""
    known_rows = {row[0]: row for row in _read_gone_rows(home)}
    write_json(home.forgotten / GONE, list({**known_rows, **{row[0]: row for row in rows}}.values()))


def count_lost_rows(home: Home, snapshot: int, batch: int, rows: Iterable[GoneRow] | None = None) -> dict[str, int]:
    """How many rows of a snapshot were forgotten, by split.

    Args:
        snapshot: version of the corpus; batch: the newest one in it.
        rows: those to count. Default: all that were ever forgotten.
    """
    counts: dict[str, int] = {}
    for _, first_batch, split, last_snapshot in _read_gone_rows(home) if rows is None else rows:
        if first_batch <= batch and snapshot <= last_snapshot:
            counts[split] = counts.get(split, 0) + 1
    return counts


def _read_gone_rows(home: Home) -> Any:
    return read_json(home.forgotten / GONE) or []
