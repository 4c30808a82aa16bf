"""Locate a recipe's base model, check that it fits, and fingerprint it."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from evertune.config.base import expand_variables
from evertune.errors import ConfigError
from evertune.models import champions
from evertune.objectives import Objective, load_objective
from evertune.records import compute_digest
from evertune.runtime.files import read_json
from evertune.runtime.home import home_of
from evertune.serving.portable import base_files

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.objectives import Options


TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken")
WEIGHTS = ("*.safetensors", "*.bin")
WRITTEN = "set a folder as `save_pretrained` of transformers writes it"


class BaseFacts(TypedDict):
    """What is known of a base model: its name, whether it is from the hub, and what its model card states."""

    name: str
    hub: bool
    license: str | None
    languages: list[str]


class _ModelCard(TypedDict, total=False):
    """What is read of the metadata of a model card."""

    license: str
    language: str | list[str] | None


def locate_base(recipe: "Recipe") -> str:
    """Return a folder, or a hub id for `from_pretrained`; a GGUF file is unpacked once into a folder of the home.

    Raises:
        ConfigError: the package is not installed, the folder or file does not exist, or it holds no model.
    """
    base_source = find_source(recipe)
    try:
        return base_files.unpack_gguf(base_source, home_of(recipe).root / "base_models")
    except OSError as error:
        raise ConfigError(f"base_model: {recipe.base_model}: {error}") from error


def find_source(recipe: "Recipe") -> str:
    """Return the folder, GGUF file or hub id that the recipe names.

    Raises:
        ConfigError: as `locate_base`.
    """
    text = expand_variables(recipe.base_model)
    if text.startswith(champions.PREFIX):
        return str(champions.find_champion(home_of(recipe).root, text, recipe.name))
    try:
        return base_files.find_model(text, recipe.folder)
    except OSError as error:
        raise ConfigError(f"base_model: {text}: {error}") from None


def resolve_options(recipe: "Recipe") -> "Options":
    """Return the objective's options, with the folder of each model that they name.

    Raises:
        ConfigError: as `locate_base`.
    """
    return recipe.objective.model_copy(
        update={name: locate_base(named_recipe) for name, named_recipe in _recipes_of_options(recipe).items()}
    )


def _recipes_of_options(recipe: "Recipe") -> dict[str, "Recipe"]:
    """Return option -> the recipe with the model that the option names as its base model."""
    names = load_objective(recipe.objective.type).MODEL_OPTIONS
    option_values = {name: getattr(recipe.objective, name) for name in names}
    return {name: recipe.model_copy(update={"base_model": text}) for name, text in option_values.items() if text}


def get_base_name(recipe: "Recipe") -> str:
    """Return the name that an adapter records for its base: a hub id, `package:NAME/FOLDER`, or a path.

    Raises:
        ConfigError: as `locate_base`.
    """
    text = expand_variables(recipe.base_model)
    return text if text.startswith("package:") else find_source(recipe)


def check_fit(recipe: "Recipe") -> None:
    """Check from the files of its folder that the model can be tuned for the recipe's objective.

    Raises:
        ConfigError: as `locate_base`, or the model cannot be tuned.
    """
    objective = load_objective(recipe.objective.type)
    folder = Path(locate_base(recipe))
    if not folder.is_dir():
        return
    reason = _explain_unfit(objective, folder)
    if reason is not None:
        raise ConfigError(f"base_model: {recipe.base_model}: {reason}")
    if recipe.training.needs_base and not _has_weights(folder):
        raise ConfigError(
            f"training.method: an unmerged adapter needs the weights of its base, and {recipe.base_model} has none; "
            "set merge: true, or set a base model with weights"
        )
    config = read_json(folder / "config.json")
    limit = config.get("n_positions" if config.get("model_type") == "gpt2" else "max_position_embeddings")
    max_length = getattr(recipe.objective, "max_length", 0)  # objectives for images have no such option
    if limit is not None and max_length > limit and not objective.has_own_tokenizer:
        raise ConfigError(
            f"objective.max_length: {max_length} is more than the {limit} tokens that {recipe.base_model} takes; "
            "lower it"
        )


def _explain_unfit(objective: Objective, folder: Path) -> str | None:
    """Explain from its files why the model in a folder cannot be tuned; None if nothing is wrong."""
    try:
        model_type = (read_json(folder / "config.json") or {}).get("model_type")
    except (ValueError, AttributeError) as error:
        return f"its config.json cannot be read ({error}); {WRITTEN}"
    if model_type is None:
        return f"its config.json names no model_type; {WRITTEN}"
    if _needs_own_code(folder, model_type):
        return (
            f"is a {model_type} model, which needs Python code from its own folder, and Evertune runs no code of a "
            "model; set a model of a type that transformers supports"
        )
    damage = _find_damage(folder)
    if damage is not None:
        return damage
    if objective.has_own_tokenizer:  # it checks the model itself
        return None
    if not any(any(folder.glob(pattern)) for pattern in TOKENIZERS):
        return f"is a {model_type} model and has no tokenizer, which the objective needs; set a model for texts"
    if not objective.STARTS_AT_RANDOM and not _has_weights(folder):
        return f"is a {model_type} model and has no weights (*.safetensors, *.bin); {WRITTEN}"
    return objective.explain_unfit(folder)


def _needs_own_code(folder: Path, model_type: str) -> bool:
    """Whether `transformers` would have to run code that came with the model (`auto_map` of its config.json)."""
    if "auto_map" not in read_json(folder / "config.json"):
        return False
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type not in CONFIG_MAPPING_NAMES


def _has_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in WEIGHTS)


def _find_damage(folder: Path) -> str | None:
    """Return which file of weights is damaged; only headers are read. None if all are sound."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            return f"{file.name} is damaged ({error}); copy or download it again"
    return None


def describe_base(recipe: "Recipe") -> BaseFacts:
    """Return the base model's name, and the licence and languages that its model card states.

    Raises:
        ConfigError: as `locate_base`.
    """
    folder = Path(find_source(recipe))
    card = _read_card(folder / "README.md") if folder.is_dir() else {}
    languages = card.get("language") or []
    return {
        # As in the recipe, with placeholders; for a folder only its name: its path is of no use to a reader.
        "name": folder.name if folder.exists() and not recipe.base_model.startswith("package:") else recipe.base_model,
        "hub": not folder.exists(),
        "license": card.get("license"),
        "languages": [languages] if isinstance(languages, str) else [str(language) for language in languages],
    }


def _read_card(card: Path) -> _ModelCard:
    """Return the metadata of a model card; empty if there is no card, or it cannot be read."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        return cast(_ModelCard, metadata_load(card) or {})
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def fingerprint_base(recipe: "Recipe") -> str:
    """Return a digest of the base model, and of the models that the objective's options name.

    Raises:
        ConfigError: as `locate_base`.
    """
    base_fingerprint = _fingerprint_source(recipe)
    option_fingerprints = [_fingerprint_source(named_recipe) for named_recipe in _recipes_of_options(recipe).values()]
    return compute_digest(base_fingerprint, *option_fingerprints) if option_fingerprints else base_fingerprint


def _fingerprint_source(recipe: "Recipe") -> str:
    return base_files.compute_fingerprint(find_source(recipe))
