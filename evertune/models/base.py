"""Where a recipe's base model lies, and what tells it from another."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config.base import expand
from evertune.errors import ConfigError
from evertune.models import champions
from evertune.objectives import module
from evertune.records import digest
from evertune.runtime.files import read_json
from evertune.runtime.home import home_of
from evertune.serving.portable import base_files

if TYPE_CHECKING:
    from evertune.config import Recipe


TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken")
WEIGHTS = ("*.safetensors", "*.bin")
WRITTEN = "give a folder as `save_pretrained` of transformers writes it"


def locate(recipe: "Recipe") -> str:
    """A folder, or a hub id for `from_pretrained`; of a GGUF file a folder that is made from it once, in the home.

    Raises:
        ConfigError: the package is not installed, the folder or file is not there, or it holds no model.
    """
    place = source(recipe)
    try:
        return base_files.ordinary(place, home_of(recipe).root / "base_models")
    except OSError as error:
        raise ConfigError(f"base_model: {recipe.base_model}: {error}") from error


def source(recipe: "Recipe") -> str:
    """The folder, GGUF file or hub id that the recipe names.

    Raises:
        ConfigError: as `locate`.
    """
    text = expand(recipe.base_model)
    if text.startswith(champions.PREFIX):
        return str(champions.folder(home_of(recipe).root, text, recipe.name))
    try:
        return base_files.find(text, recipe.folder)
    except OSError as error:
        raise ConfigError(f"base_model: {text}: {error}") from None


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


def name(recipe: "Recipe") -> str:
    """What an adapter calls its base: a hub id, `package:NAME/FOLDER`, else where the folder or file lies.

    Raises:
        ConfigError: as `locate`.
    """
    text = expand(recipe.base_model)
    return text if text.startswith("package:") else source(recipe)


def check_fit(recipe: "Recipe") -> None:
    """Nothing where the model can be tuned for the recipe's objective, as far as the files of its folder tell.

    Raises:
        ConfigError: as `locate`, or it cannot.
    """
    objective, place = module(recipe.objective.type), Path(locate(recipe))
    if not place.is_dir():
        return
    reason = _unfit(objective, place)
    if reason is not None:
        raise ConfigError(f"base_model: {recipe.base_model}: {reason}")
    if recipe.training.apart and not _has_weights(place):
        raise ConfigError(
            f"training.method: an adapter that stays apart belongs to its base's weights, and {recipe.base_model} has "
            "none; set merge: true, or give a base model with weights"
        )
    stated = read_json(place / "config.json")
    limit = stated.get("n_positions" if stated.get("model_type") == "gpt2" else "max_position_embeddings")
    longest = getattr(recipe.objective, "max_length", 0)  # pictures have no such option
    if limit is not None and longest > limit and not hasattr(objective, "tokenizer"):
        raise ConfigError(
            f"objective.max_length: {longest} is more than the {limit} tokens that {recipe.base_model} takes; lower it"
        )


def _unfit(objective: Any, place: Path) -> str | None:
    """Why the model in a folder cannot be used, from its files alone; None where nothing speaks against it."""
    try:
        kind = (read_json(place / "config.json") or {}).get("model_type")
    except (ValueError, AttributeError) as error:
        return f"its config.json cannot be read ({error}); {WRITTEN}"
    if kind is None:
        return f"its config.json names no model_type; {WRITTEN}"
    if _needs_own_code(place, kind):
        return (
            f"is of the kind {kind}, which only the Python code in the model's own folder knows, and Evertune runs no "
            "code of a model; give a model of a kind that transformers has"
        )
    if damage := _damage(place):
        return damage
    if hasattr(objective, "tokenizer"):  # which looks at the model itself
        return None
    if not any(any(place.glob(pattern)) for pattern in TOKENIZERS):
        return f"is of the kind {kind} and has no tokenizer; the objective reads texts: give a model of texts"
    if not hasattr(objective, "STARTS_AT_RANDOM") and not _has_weights(place):
        return f"is of the kind {kind} and has no weights (*.safetensors, *.bin); {WRITTEN}"
    return objective.unfit(place) if hasattr(objective, "unfit") else None


def _needs_own_code(place: Path, kind: str) -> bool:
    """Whether `transformers` would have to run code that came with the model (`auto_map` of its config.json)."""
    if "auto_map" not in read_json(place / "config.json"):
        return False
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return kind not in CONFIG_MAPPING_NAMES


def _has_weights(place: Path) -> bool:
    return any(any(place.glob(pattern)) for pattern in WEIGHTS)


def _damage(place: Path) -> str | None:
    """Which file of weights is cut off or no such file; the tensors themselves are not read."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(place.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            return f"{file.name} is damaged ({error}); copy or download it again"
    return None


def told(recipe: "Recipe") -> dict[str, Any]:
    """What a reader wants to know of the base model: its name, and the licence and languages that its own card states.

    Raises:
        ConfigError: as `locate`.
    """
    place = Path(source(recipe))
    known = _stated(place / "README.md") if place.is_dir() else {}
    languages = known.get("language") or []
    return {
        # As the recipe has it, placeholders unfilled; of a folder its name: where it lies is of no use to a reader.
        "name": place.name if place.exists() and not recipe.base_model.startswith("package:") else recipe.base_model,
        "hub": not place.exists(), "license": known.get("license"),
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
    own, others = _fingerprint(recipe), [_fingerprint(one) for one in _named(recipe).values()]
    return digest(own, *others) if others else own


def _fingerprint(recipe: "Recipe") -> str:
    return base_files.fingerprint(source(recipe))
