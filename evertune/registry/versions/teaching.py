"""The teacher that `training.distill` names, wherever it is: on disk, or among the recipe's own registered models."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import ConfigError
from evertune.models import teachers
from evertune.registry.versions import versions as models
from evertune.runtime.home import home_of
from evertune.serving import bundle

if TYPE_CHECKING:
    from evertune.config import Recipe


def find(recipe: "Recipe", champion: int | None = None) -> tuple[Path, str] | None:
    """The folder of a bundle or of a base model, and its digest; None where there is no teacher.

    Args:
        champion: as for `version`.
    Raises:
        ConfigError: it is not there, or has no opinion of labels where one is asked for.
        RegistryError: MLflow does not answer, or has no such version.
    """
    if recipe.training.distill is None:
        return None
    place = _registered(recipe, champion) or teachers.place(recipe)
    return None if place is None else (place, teachers.fingerprint(recipe) or bundle.digest(place))


def version(recipe: "Recipe", champion: int | None = None) -> int | None:
    """The teacher's version, where it is one of the recipe's own; None where it is not, or there is none.

    Args:
        champion: the version that a recipe means which asks for the champion. Default: the champion of now.
    Raises:
        ConfigError: the champion is asked for, and there is none yet.
    """
    home, model, asked = home_of(recipe), recipe.registered_name, teachers.registered(recipe)
    if asked is None:
        return None
    number = (champion or models.champion(home, model)) if asked == "champion" else int(asked)
    if number is None:
        raise ConfigError(
            f"{teachers.KEY}: {model} has no champion yet; name the folder of a bundle, or train one first"
        )
    return number


def _registered(recipe: "Recipe", champion: int | None) -> Path | None:
    number = version(recipe, champion)
    return None if number is None else models.bundle_of(home_of(recipe), recipe.registered_name, number)
