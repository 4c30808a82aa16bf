"""What a corpus is made with and keeps: the roles of its rows, and the split that each source gives its rows."""

from typing import Any

from evertune.config import Recipe
from evertune.data.row_versions import roles
from evertune.errors import ConfigError
from evertune.runtime.home import Home


def check_roles(recipe: Recipe, home: Home, state: dict[str, Any]) -> None:
    """The recipe maps the roles that the corpus has.

    Raises:
        ConfigError: it does not.
    """
    had, wanted = state.get("roles"), roles(recipe)
    if had is not None and had != wanted:
        raise ConfigError(
            f"data.columns: the corpus of {home.name} was taken in with the roles {', '.join(had)}, the recipe now has "
            f"{', '.join(wanted)}: every row would count as new. Set them back, give the recipe a new name, or delete "
            f"{home.model}"
        )


def check_splits(home: Home, state: dict[str, Any], given: dict[str, str | None]) -> None:
    """Every source gives its rows the split that it gave them before: the split is part of a row's version.

    Args:
        given: the split that each source gives its rows now.
    Raises:
        ConfigError: one gives another split.
    """
    had = state.get("splits", {})
    problems = [
        f"data.sources: {name} was taken in with {_said(had[name])}, the recipe now gives it {_said(split)}: every row "
        f"of it would come in a second time. Set it back, give the recipe a new name, or delete {home.model}"
        for name, split in given.items()
        if name in had and had[name] != split
    ]
    if problems:
        raise ConfigError(problems)


def _said(split: str | None) -> str:
    return "no split" if split is None else f"`split: {split}`"
