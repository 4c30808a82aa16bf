"""The ledger: every decision and alias change of a model, in an append-only file that survives a torn write."""

import getpass
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evertune.records import Outcome, plain
from evertune.runtime.files import append_json, json_lines
from evertune.runtime.home import Home

logger = logging.getLogger(__name__)
SKEW = timedelta(minutes=5)  # that clocks of machines differ, or are set back by


def append(home: Home, event: str, **facts: Any) -> dict[str, Any]:
    """Add an entry, on the disk before the call returns.

    Args:
        event: `decision`, `intent`, `moved`, `abandoned`, `external`, `approved`, `rejected-by-hand`, `expired`,
            `unchanged`, `recipe` (it was edited), `trigger`.
        facts: JSON-ready values; `who` defaults to this process's user.
    Raises:
        OSError: the disk is full or not writable.
    """
    now = datetime.now(UTC)
    entry = {"time": now.isoformat(timespec="seconds"), "event": event, "who": who(), **plain(facts)}
    _look_at_clock(home, now)
    with home.lock("ledger"):
        append_json(home.ledger, entry)
    return entry


def _look_at_clock(home: Home, now: datetime) -> None:
    last = entries(home)[-1:]
    if last and datetime.fromisoformat(last[0]["time"]) > now + SKEW:
        logger.warning(
            "this machine's clock went back: it says %s, the ledger's last entry is of %s; the ledger goes by order, "
            "not by time, but set the clock: rows are refused that it takes for future ones",
            f"{now:%Y-%m-%d %H:%M}", last[0]["time"].replace("T", " ")[:16],
        )  # fmt: skip


def unchanged(home: Home, outcome: Outcome) -> Outcome:
    """Record that a run found nothing to do; the outcome, with the champion of today.

    Raises:
        OSError: the disk is full or not writable.
    """
    outcome = replace(outcome, champion_version=last_known(home))
    append(home, "unchanged", reason=outcome.reason, champion=outcome.champion_version)
    return outcome


def recipe_changed(home: Home, changes: Sequence[str]) -> None:
    """Record what the recipe of this run changed, once: a run that goes on after a crash tells the same.

    Raises:
        OSError: the disk is full or not writable.
    """
    words = "; ".join(changes)
    last = next((one["reason"] for one in reversed(entries(home)) if one["event"] == "recipe"), None)
    if words and words != last:
        append(home, "recipe", reason=words)


def entries(home: Home) -> list[dict[str, Any]]:
    """All whole entries, oldest first."""
    if not home.ledger.exists():
        return []
    with home.ledger.open("rb") as file:
        made = os.fstat(file.fileno()).st_ino
        read = _read.get(home.ledger)
        if read is None or read.inode != made or read.size > os.fstat(file.fileno()).st_size:
            read = _Read(made)
        file.seek(read.size)
        new = file.read()
    whole = new[: new.rfind(b"\n") + 1]  # what is behind may still be written
    found = [*read.entries, *json_lines(whole)]
    _read[home.ledger] = _Read(made, read.size + len(whole), tuple(found))
    return found + json_lines(new[len(whole) :])


@dataclass(frozen=True)
class _Read:
    """What this process has read of a ledger: it only grows, and a run asks for it a dozen times."""

    inode: int
    size: int = 0
    entries: tuple[dict[str, Any], ...] = ()


_read: dict[Path, _Read] = {}


def who() -> str:
    """The person or service behind this process: EVERTUNE_USER, else the login name."""
    try:
        return os.environ.get("EVERTUNE_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def last_known(home: Home) -> int | None:
    """The champion as the ledger has it; None before the first."""
    known = None
    for one in entries(home):
        if one["event"] in {"moved", "external"}:
            known = one["to"]
    return known


def knows_versions(home: Home) -> bool:
    """Whether a version was decided on or had the alias."""
    return any(one.get("version") or one.get("to") for one in entries(home))


def open_intent(home: Home) -> dict[str, Any] | None:
    """An alias move that was begun and neither confirmed nor given up."""
    pending = None
    for one in entries(home):
        if one["event"] == "intent":
            pending = one
        elif one["event"] in {"moved", "abandoned"}:
            pending = None
    return pending
