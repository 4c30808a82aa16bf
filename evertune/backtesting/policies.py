"""Retraining policies: when a window's end is a reason to retrain, and what gives a challenger its place."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evertune.errors import ConfigError


@dataclass(frozen=True)
class Policy:
    """One policy.

    Args:
        name: as it was asked for.
        retrains: at every window's end, at none, or where drift is found.
        gated: whether the gate decides on a promotion; else every challenger is promoted.
        lenient: whether what the gate holds for want of evidence is promoted all the same.
        superior_on: test rows on which the gate asks for superiority. Default: those that the recipe names.
        period: windows from one occasion to the next.
    """

    name: str
    retrains: str
    gated: bool
    lenient: bool = False
    superior_on: str | None = None
    period: int = 1


TABLE = {
    "never": Policy("never", "never", gated=False),
    "always": Policy("always", "always", gated=False),
    "gated": Policy("gated", "always", gated=True),
    "gated-test": Policy("gated-test", "always", gated=True, superior_on="test"),
    "drift": Policy("drift", "drift", gated=True),
    "unless-harm": Policy("unless-harm", "always", gated=True, lenient=True),
}


def parse_policies(names: str) -> list[Policy]:
    """Policies by name, each with a period where one is given: `never,always,gated:4`.

    Raises:
        ConfigError: no such policy.
    """
    unique_names = dict.fromkeys(name.strip() for name in names.split(","))
    return [_parse_policy(name) for name in unique_names if name] or _refuse_empty()


def _parse_policy(name: str) -> Policy:
    kind, _, period = name.partition(":")
    if kind not in TABLE:
        matches: Sequence[str] = difflib.get_close_matches(kind, TABLE, 1)
        hint = f"did you mean {matches[0]}?" if matches else f"there are {', '.join(TABLE)}"
        raise ConfigError(f"--policies: no policy {kind}; {hint}")
    if period and not (period.isdecimal() and int(period)):
        raise ConfigError(f"--policies: {name}: give a number of windows, such as {kind}:4")
    return replace(TABLE[kind], name=name, period=int(period or 1))


def _refuse_empty() -> list[Policy]:
    raise ConfigError(f"--policies: name one at least of {', '.join(TABLE)}")
