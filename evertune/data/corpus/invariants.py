"""What a corpus is made with and keeps: the roles of its rows, and the split that each source gives its rows."""

from typing import Any

from evertune.config import Recipe
from evertune.data.row_versions import list_roles
from evertune.errors import ConfigError
from evertune.runtime.home import Home


def check_roles(recipe: Recipe, home: Home, state: dict[str, Any]) -> None:
    """The recipe maps the roles that the corpus has.

    Raises:
        ConfigError: it does not.
    """
    known_roles = state.get("roles")
    recipe_roles = list_roles(recipe)
    if known_roles is not None and known_roles != recipe_roles:
        raise ConfigError(
            f"data.columns: the corpus of {home.name} was taken in with the roles {', '.join(known_roles)}, the "
            "recipe now has "
            f"{', '.join(recipe_roles)}: every row would count as new. Set them back, give the recipe a new name, "
            "or delete "
            f"{home.model}"
        )


def check_splits(home: Home, state: dict[str, Any], source_splits: dict[str, str | None]) -> None:
    """Every source gives its rows the split that it gave them before: the split is part of a row's version.

    Args:
        given: the split that each source gives its rows now.
    Raises:
        ConfigError: one gives another split.
    """
    known_splits = state.get("splits", {})
    problems = [
        f"data.sources: {name} was taken in with {_describe_split(known_splits[name])}, the recipe now gives it "
        f"{_describe_split(split)}: every row "
        f"of it would come in a second time. Set it back, give the recipe a new name, or delete {home.model}"
        for name, split in source_splits.items()
        if name in known_splits and known_splits[name] != split
    ]
    if problems:
        raise ConfigError(problems)


def _describe_split(split: str | None) -> str:
    return "no split" if split is None else f"`split: {split}`"
