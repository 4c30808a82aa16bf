"""Retraining policies: when to retrain, and when to promote the challenger."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evertune.errors import ConfigError


@dataclass(frozen=True)
class Policy:
    """A retraining policy.

    Args:
        name: as given on the command line.
        retrains: `always` (at the end of each period), `never`, or `drift` (if drift is found there).
        gated: whether the gate decides on a promotion; otherwise every challenger is promoted.
        lenient: whether a challenger that the gate holds is promoted too.
        superior_on: test rows on which the gate requires superiority. None: those that the recipe names.
        period: number of windows between two occasions to retrain.
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
    """Parse policies by name, each with an optional period: `never,always,gated:4`.

    Raises:
        ConfigError: a policy is unknown, its period is not a number, or no policy is named.
    """
    unique_names = dict.fromkeys(name.strip() for name in names.split(","))
    policies = [_parse_policy(name) for name in unique_names if name]
    if not policies:
        raise ConfigError(f"--policies: no policy is named; choose from {', '.join(TABLE)}")
    return policies


def _parse_policy(name: str) -> Policy:
    kind, _, period = name.partition(":")
    if kind not in TABLE:
        matches: Sequence[str] = difflib.get_close_matches(kind, TABLE, 1)
        hint = f"did you mean {matches[0]}?" if matches else f"choose from {', '.join(TABLE)}"
        raise ConfigError(f"--policies: no policy {kind}; {hint}")
    if period and not (period.isdecimal() and int(period)):
        raise ConfigError(f"--policies: {name}: give a number of windows, such as {kind}:4")
    return replace(TABLE[kind], name=name, period=int(period or 1))
