"""The teacher of `training.distill`: on disk, or among the recipe's own registered versions."""

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
    """Return the teacher's folder, a bundle or a base model, and its digest; None without a teacher.

    Args:
        champion: as for `find_teacher_version`.
    Raises:
        ConfigError: the teacher is not there, or does not predict labels where it has to.
        RegistryError: MLflow does not answer, or has no such version.
    """
    if recipe.training.distill is None:
        return None
    folder = _find_registered(recipe, champion) or teachers.locate_teacher(recipe)
    return None if folder is None else (folder, teachers.fingerprint_teacher(recipe) or bundle.compute_digest(folder))


def find_teacher_version(recipe: "Recipe", champion: int | None = None) -> int | None:
    """Return the teacher's version if it is one of the recipe's own; None for another teacher, or without one.

    Args:
        champion: version to use as the teacher `champion`. Default: today's champion.
    Raises:
        ConfigError: the teacher is the champion, and there is none yet.
        RegistryError: MLflow does not answer.
    """
    home = home_of(recipe)
    model = recipe.registered_name
    named_version = teachers.registered_teacher(recipe)
    if named_version is None:
        return None
    if named_version != "champion":
        return int(named_version)
    number = champion or versions.find_champion(home, model)
    if number is None:
        raise ConfigError(
            f"{teachers.KEY}: {model} has no champion yet; name the folder of a bundle, or train a champion first"
        )
    return number


def _find_registered(recipe: "Recipe", champion: int | None) -> Path | None:
    number = find_teacher_version(recipe, champion)
    return None if number is None else versions.fetch_bundle(home_of(recipe), recipe.registered_name, number)
