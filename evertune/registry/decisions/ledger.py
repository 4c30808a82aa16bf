"""The ledger: every decision and alias change of a model, in an append-only file that survives torn writes."""

import getpass
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypedDict, Unpack, cast

from evertune.records import Evidence, Outcome, Verdict, to_plain
from evertune.runtime.files import append_json, parse_json_lines
from evertune.runtime.home import Home

logger = logging.getLogger(__name__)
SKEW = timedelta(minutes=5)  # tolerated difference between clocks


Event = Literal[
    "decision",
    "intent",
    "moved",
    "abandoned",
    "external",
    "approved",
    "rejected-by-hand",
    "expired",
    "unchanged",
    "recipe",  # it was edited
    "trigger",
    "cleaned",
    "forgotten",
]

# The ends of a move of the champion: the versions before and after it, None without a champion.
Move = TypedDict("Move", {"from": int | None, "to": int | None}, total=False)


class MoveFacts(TypedDict, total=False):
    """Why the champion was moved: `run_id` by a run, `by_hand` by a person, and whether that was a `rollback`."""

    reason: str
    run_id: str
    by_hand: bool
    rollback: bool


class Facts(Move, MoveFacts, total=False):
    """What an entry says besides its time and event; which keys there are depends on the event.

    Args:
        who: the person or service.
        version: that was decided on, approved, rejected or expired.
        verdict, evidence: of a `decision`, which also has the `run_id`.
        champion: version in use at the time.
        repaired: of a move that a crash cut off before it was recorded.
        trigger, starts, held: of a `trigger`: its name, whether it starts a retraining, and why not.
        versions, bytes: of `cleaned`: what was removed.
        mark, asked, rows: of `forgotten`: the request, the number of given names, row versions by table.
    """

    who: str
    version: int
    verdict: Verdict
    champion: int | None
    evidence: Sequence[Evidence]
    repaired: bool
    trigger: str
    starts: bool
    held: str | None
    versions: list[int]
    bytes: int
    mark: str
    asked: int
    rows: dict[str, int]


class Entry(Facts):
    """A line of the ledger."""

    time: str  # ISO, UTC
    event: Event


def append_event(home: Home, event: Event, **facts: Unpack[Facts]) -> Entry:
    """Append an entry and return it; it is on the disk before the call returns.

    Args:
        event: what happened.
        facts: JSON-ready values; `who` defaults to the user of this process.
    Raises:
        OSError: the disk is full or not writable.
    """
    now = datetime.now(UTC)
    entry = cast(
        Entry, {"time": now.isoformat(timespec="seconds"), "event": event, "who": find_user(), **to_plain(facts)}
    )
    _check_clock(home, now)
    with home.lock("ledger"):
        append_json(home.ledger, entry)
    return entry


def _check_clock(home: Home, now: datetime) -> None:
    last = read_entries(home)[-1:]
    if last and datetime.fromisoformat(last[0]["time"]) > now + SKEW:
        logger.warning(
            "this machine's clock is behind: it shows %s, and the ledger's last entry is of %s. The order of the "
            "ledger is not affected, but rows with later timestamps are refused as future ones; set the clock",
            f"{now:%Y-%m-%d %H:%M}",
            last[0]["time"].replace("T", " ")[:16],
        )


def record_unchanged(home: Home, outcome: Outcome) -> Outcome:
    """Record that a run found nothing to do, and return its outcome with today's champion.

    Raises:
        OSError: the disk is full or not writable.
    """
    outcome = replace(outcome, champion_version=find_last_champion(home))
    append_event(home, "unchanged", reason=outcome.reason, champion=outcome.champion_version)
    return outcome


def record_recipe_change(home: Home, changes: Sequence[str]) -> None:
    """Record the changes of the recipe since the last run, once: a run that continues after a crash finds the same.

    Args:
        changes: in words.

    Raises:
        OSError: the disk is full or not writable.
    """
    reason = "; ".join(changes)
    last = next((entry["reason"] for entry in reversed(read_entries(home)) if entry["event"] == "recipe"), None)
    if reason and reason != last:
        append_event(home, "recipe", reason=reason)


def read_entries(home: Home) -> list[Entry]:
    """Return all whole entries, oldest first."""
    if not home.ledger.exists():
        return []
    with home.ledger.open("rb") as file:
        inode = os.fstat(file.fileno()).st_ino
        cached = _read_states.get(home.ledger)
        if cached is None or cached.inode != inode or cached.size > os.fstat(file.fileno()).st_size:
            cached = _ReadState(inode)
        file.seek(cached.size)
        new = file.read()
    whole = new[: new.rfind(b"\n") + 1]  # another process may be writing the rest
    whole_entries = [*cached.entries, *_parse_entries(whole)]
    _read_states[home.ledger] = _ReadState(inode, cached.size + len(whole), tuple(whole_entries))
    return whole_entries + _parse_entries(new[len(whole) :])


def _parse_entries(lines: bytes) -> list[Entry]:
    return cast(list[Entry], parse_json_lines(lines))


@dataclass(frozen=True)
class _ReadState:
    """The part of a ledger that this process has read. A ledger only grows, and a run reads it a dozen times."""

    inode: int
    size: int = 0
    entries: tuple[Entry, ...] = ()


_read_states: dict[Path, _ReadState] = {}


def find_user() -> str:
    """Return the person or service behind this process: EVERTUNE_USER, else the login name."""
    try:
        return os.environ.get("EVERTUNE_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def find_last_champion(home: Home) -> int | None:
    """Return the champion according to the ledger; None before the first."""
    champion = None
    for entry in read_entries(home):
        if entry["event"] in {"moved", "external"}:
            champion = entry["to"]
    return champion


def has_versions(home: Home) -> bool:
    """Return whether any version was decided on or was champion."""
    return any(entry.get("version") or entry.get("to") for entry in read_entries(home))


def find_open_intent(home: Home) -> Entry | None:
    """Return the intent of an alias move that was neither confirmed nor abandoned; None without one."""
    pending = None
    for entry in read_entries(home):
        if entry["event"] == "intent":
            pending = entry
        elif entry["event"] in {"moved", "abandoned"}:
            pending = None
    return pending
