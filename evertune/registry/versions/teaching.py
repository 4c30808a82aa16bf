"""The teacher that `training.distill` names, wherever it is: on disk, or among the recipe's own registered models."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import ConfigError
from evertune.models import teachers
from evertune.registry.versions import versions
from evertune.runtime.home import home_of
from evertune.serving import bundle

if TYPE_CHECKING:
    from evertune.config import Recipe


def find_teacher(recipe: "Recipe", champion: int | None = None) -> tuple[Path, str] | None:
    """The folder of a bundle or of a base model, and its digest; None where there is no teacher.

    Args:
        champion: as for `version`.
    Raises:
        ConfigError: it is not there, or has no opinion of labels where one is asked for.
        RegistryError: MLflow does not answer, or has no such version.
    """
    if recipe.training.distill is None:
        return None
    folder = _find_registered(recipe, champion) or teachers.locate_teacher(recipe)
    return None if folder is None else (folder, teachers.fingerprint_teacher(recipe) or bundle.compute_digest(folder))


def find_teacher_version(recipe: "Recipe", champion: int | None = None) -> int | None:
    """The teacher's version, where it is one of the recipe's own; None where it is not, or there is none.

    Args:
        champion: the version that a recipe means which asks for the champion. Default: the champion of now.
    Raises:
        ConfigError: the champion is asked for, and there is none yet.
    """
    home = home_of(recipe)
    model = recipe.registered_name
    named_version = teachers.registered_teacher(recipe)
    if named_version is None:
        return None
    number = (champion or versions.find_champion(home, model)) if named_version == "champion" else int(named_version)
    if number is None:
        raise ConfigError(
            f"{teachers.KEY}: {model} has no champion yet; name the folder of a bundle, or train one first"
        )
    return number


def _find_registered(recipe: "Recipe", champion: int | None) -> Path | None:
    number = find_teacher_version(recipe, champion)
    return None if number is None else versions.fetch_bundle(home_of(recipe), recipe.registered_name, number)
