"""Locate a recipe's teacher, if it is not in the recipe's own registry."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config.base import expand_variables
from evertune.errors import ConfigError
from evertune.models import champions
from evertune.models.foreign import adopt_bundle
from evertune.runtime.home import home_of
from evertune.serving.portable import base_files

if TYPE_CHECKING:
    from evertune.config import Recipe

KEY = "training.distill.teacher"
CARD = "evertune.json"  # a bundle has it, a base model does not


def registered_teacher(recipe: "Recipe") -> str | None:
    """Return `champion` or a version's number if the teacher is one of the recipe's own models; else None."""
    rule = recipe.training.distill
    if rule is None:
        return None
    is_registered = rule.teacher == "champion" or rule.teacher.isdecimal()
    return rule.teacher if is_registered else None


def teacher_folder(recipe: "Recipe") -> Path | None:
    """Return the teacher's folder if the recipe names one; whether it exists is not checked.

    Raises:
        ConfigError: an environment variable is not set.
    """
    rule = recipe.training.distill
    if rule is None or registered_teacher(recipe) is not None:
        return None
    if rule.teacher.startswith((champions.PREFIX, "package:")):
        return None
    return (recipe.folder / Path(expand_variables(rule.teacher)).expanduser()).resolve()


def locate_teacher(recipe: "Recipe") -> Path | None:
    """Return the folder of the teacher's bundle or base model, or a hub id.

    None if there is no teacher, or it is one of the recipe's own models (see `registered_teacher`).

    Raises:
        ConfigError: the teacher does not exist, or is a base model and the recipe needs its labels.
    """
    rule = recipe.training.distill
    if rule is None or registered_teacher(recipe) is not None:
        return None
    text = expand_variables(rule.teacher)
    try:
        teacher_path = _find_folder(recipe, text)
    except OSError as error:
        raise ConfigError(
            f"{KEY}: {text}: no model found ({error}); set `champion`, a version's number, champion:NAME, the folder "
            "of a bundle, or a base model"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{KEY}: {error}") from error
    if rule.weight and not (teacher_path / CARD).is_file():
        raise ConfigError(
            f"{KEY}: {text} is a base model (no {CARD}) without a head for the labels; set training.distill.weight to "
            "0 and hidden above 0, or name a model that was tuned for these labels"
        )
    return teacher_path


def _find_folder(recipe: "Recipe", text: str) -> Path:
    root = home_of(recipe).root
    if text.startswith(champions.PREFIX):
        return champions.find_champion(root, text, recipe.name).parent
    bundle_folder = (recipe.folder / Path(text).expanduser()).resolve()
    if (bundle_folder / CARD).is_file():
        return adopt_bundle(bundle_folder, root)
    return Path(base_files.unpack_gguf(base_files.find_model(text, recipe.folder), root / "base_models"))


def fingerprint_teacher(recipe: "Recipe") -> str | None:
    """Return a digest of the teacher's weights; None where `locate_teacher` returns None.

    Raises:
        ConfigError: as `locate_teacher`.
    """
    teacher_path = locate_teacher(recipe)
    if teacher_path is None:
        return None
    is_bundle = (teacher_path / CARD).is_file()
    return base_files.compute_fingerprint(str(teacher_path / "model" if is_bundle else teacher_path))
