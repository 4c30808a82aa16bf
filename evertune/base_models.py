"""Where a recipe's base model lies, and what tells it from another."""

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune import champions
from evertune.config.base import expand
from evertune.errors import ConfigError
from evertune.home import home_of
from evertune.objectives import module
from evertune.records import digest

if TYPE_CHECKING:
    from evertune.config import Recipe

PIECE = 1 << 20  # bytes at either end of a large file that stand for its content


def locate(recipe: "Recipe") -> str:
    """A folder, or a hub id for `from_pretrained`.

    Raises:
        ConfigError: the package is not installed, or the folder is not there or holds no model.
    """
    text = expand(recipe.base_model)
    if text.startswith(champions.PREFIX):
        return str(champions.folder(home_of(recipe).root, text))
    if text.startswith("package:"):
        return str(_in_package(text))
    folder = (recipe.folder / Path(text).expanduser()).resolve()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"base_model: {text}: the folder has no config.json; give the folder that holds the model"
            )
        return str(folder)
    if text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise ConfigError(f"base_model: {text}: no such folder; give a hub id, a folder, or package:NAME/FOLDER")
    return text


def options(recipe: "Recipe") -> Any:
    """The objective's options, and for each model that they name the folder where it lies.

    Raises:
        ConfigError: as `locate`.
    """
    return recipe.objective.model_copy(update={name: locate(one) for name, one in _named(recipe).items()})


def _named(recipe: "Recipe") -> dict[str, "Recipe"]:
    """Option -> the recipe as if its base model were the model that the option names."""
    names = getattr(module(recipe.objective.type), "MODELS", ())
    given = {name: getattr(recipe.objective, name) for name in names}
    return {name: recipe.model_copy(update={"base_model": text}) for name, text in given.items() if text}


def _in_package(text: str) -> Path:
    name, _, inside = text.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"base_model: {text}: no package {name!r} is installed here; try `pip install {name.replace('_', '-')}`"
        )
    folder = Path(spec.submodule_search_locations[0]) / inside
    if not (folder / "config.json").is_file():
        raise ConfigError(f"base_model: {text}: the package is there, but has no model in the folder {inside!r}")
    return folder


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
    """A digest of the base model, and of the models that the objective's options name.

    Raises:
        ConfigError: as `locate`.
    """
    own, others = _fingerprint(locate(recipe)), [_fingerprint(locate(one)) for one in _named(recipe).values()]
    return digest(own, *others) if others else own


def _fingerprint(place: str) -> str:
    """Of a folder of its files, of a hub id of the name."""
    state = hashlib.blake2b(digest_size=16)
    if not Path(place).is_dir():
        state.update(place.encode())
        return state.hexdigest()
    for file in sorted(Path(place).glob("*")):
        if file.is_file() and file.suffix in {".json", ".txt", ".safetensors", ".bin", ".model", ".gguf"}:
            state.update(f"{file.name}:{file.stat().st_size}".encode())
            state.update(_ends(file))
    return state.hexdigest()


def _ends(file: Path) -> bytes:
    with file.open("rb") as stream:
        head = stream.read(PIECE)
        stream.seek(max(PIECE, file.stat().st_size - PIECE))
        return head + stream.read(PIECE)
