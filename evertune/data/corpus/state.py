"""The corpus' `state.json`: the sources that were ingested, what they fixed, and the last concluded run.

A key that an older version did not write has its default. Keys that this version does not know are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from evertune.data.row_versions import list_roles
from evertune.errors import ConfigError
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home


class Conclusion(TypedDict, total=False):
    """The last concluded run: what it was made from and how it ended."""

    recipe: str  # fingerprint, see `up_to_date.recipe_fingerprint`
    snapshot: str  # fingerprint
    outcome: dict[str, Any]  # fields of a `records.Outcome`
    batch: int  # number of the newest batch in the snapshot
    sources: dict[str, str]  # `CorpusState.sources` as the run knew them; empty once rows were removed from the corpus


@dataclass(frozen=True)
class CorpusState:
    """What `state.json` holds.

    Args:
        batch: number of the newest committed batch; None before the first.
        sources: fingerprint of each ingested source, by URI.
        splits: the split that each source gives its rows, by URI; None where it gives none.
        roles: roles of the corpus' rows in order; None before the first batch.
        files: `[size, mtime_ns, digest]` of source files, by name: unchanged ones are not read again.
        recipe: settings of the last concluded run, see `recipe_changes.summarize_recipe`.
        concluded: the last concluded run; None before the first.
    """

    batch: int | None = None
    sources: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str | None] = field(default_factory=dict)
    roles: list[str] | None = None
    files: dict[str, list[int | str]] = field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    concluded: Conclusion | None = None

    @property
    def concluded_batch(self) -> int:
        """Number of the newest batch that a concluded run has seen; 0 before the first."""
        return 0 if self.concluded is None else self.concluded.get("batch", 0)


FIELDS = tuple(item.name for item in fields(CorpusState))


def load_state(home: Home) -> CorpusState:
    """Return the state; before the first ingest all fields have their defaults."""
    return _parse_state(read_json(home.state) or {})


def update_state(home: Home, change: Callable[[CorpusState], CorpusState]) -> None:
    """Change fields of the state while no other process writes it; a change that returns its argument writes nothing.

    Args:
        change: takes the stored state and returns the new one.
    """
    with home.lock("state"):
        stored: dict[str, Any] = read_json(home.state) or {}
        state = _parse_state(stored)
        changed = change(state)
        if changed is state:
            return
        for name in FIELDS:
            value = getattr(changed, name)
            if name in stored or value is not getattr(state, name):
                stored[name] = value
        write_json(home.state, stored)


def _parse_state(stored: dict[str, Any]) -> CorpusState:
    return CorpusState(**{name: stored[name] for name in FIELDS if stored.get(name) is not None})


def check_roles(context: RunContext, state: CorpusState) -> None:
    """Check that the recipe maps the roles that the corpus has.

    Raises:
        ConfigError: it maps others.
    """
    recipe_roles = list_roles(context.recipe)
    if state.roles is not None and state.roles != recipe_roles:
        raise ConfigError(
            f"data.columns: the recipe maps the roles {', '.join(recipe_roles)}, but the corpus of "
            f"{context.home.name} was "
            f"built with {', '.join(state.roles)}. Every row would count as new. Restore the roles, give the recipe a "
            f"new name, or delete {context.home.model}"
        )


def check_splits(home: Home, state: CorpusState, source_splits: dict[str, str | None]) -> None:
    """Check that every source gives its rows the same split as before, since a split is part of a row's version.

    Args:
        source_splits: the split that each source gives its rows now, by URI.
    Raises:
        ConfigError: a source gives another split.
    """
    problems = [
        f"data.sources: {name} now has {_describe_split(split)}, but was ingested with "
        f"{_describe_split(state.splits[name])}. Its rows would be ingested a second time. Restore the split, give the "
        f"recipe a new name, or delete {home.model}"
        for name, split in source_splits.items()
        if name in state.splits and state.splits[name] != split
    ]
    if problems:
        raise ConfigError(problems)


def _describe_split(split: str | None) -> str:
    return "no split" if split is None else f"`split: {split}`"
