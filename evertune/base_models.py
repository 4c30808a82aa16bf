"""Where a recipe's base model lies, and what tells it from another."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune import base_files
from evertune.config.base import expand
from evertune.errors import ConfigError

if TYPE_CHECKING:
    from evertune.config import Recipe


def locate(recipe: "Recipe") -> str:
    """A folder, or a hub id for `from_pretrained`.

    Raises:
        ConfigError: the package is not installed, or the folder is not there or holds no model.
    """
    text = expand(recipe.base_model)
    try:
        return base_files.find(text, recipe.folder)
    except OSError as error:
        raise ConfigError(f"base_model: {text}: {error}") from None


def name(recipe: "Recipe") -> str:
    """What an adapter calls its base: a hub id, `package:NAME/FOLDER`, else the folder's place.

    Raises:
        ConfigError: as `locate`.
    """
    text = expand(recipe.base_model)
    return text if text.startswith("package:") else locate(recipe)


def told(recipe: "Recipe") -> dict[str, Any]:
    """What a reader wants to know of the base model: its name, and the licence and languages that its own card states.

    Raises:
        ConfigError: as `locate`.
    """
    place = Path(locate(recipe))
    known = _stated(place / "README.md") if place.is_dir() else {}
    languages = known.get("language") or []
    return {
        # As the recipe has it, placeholders unfilled; of a folder its name: where it lies is of no use to a reader.
        "name": place.name if place.is_dir() and not recipe.base_model.startswith("package:") else recipe.base_model,
        "hub": not place.is_dir(), "license": known.get("license"),
        "languages": [languages] if isinstance(languages, str) else [str(one) for one in languages],
    }  # fmt: skip


def _stated(card: Path) -> dict[str, Any]:
    """The metadata of a model card; none where there is no card, or nobody can read it."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        return metadata_load(card) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def fingerprint(recipe: "Recipe") -> str:
    """A digest of the base model: of a folder its files, of a hub id the name.

    Raises:
        ConfigError: as `locate`.
    """
    return base_files.fingerprint(locate(recipe))
