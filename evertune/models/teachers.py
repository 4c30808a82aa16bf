"""Where a recipe's teacher lies, if not in the recipe's own registry."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config.base import expand
from evertune.errors import ConfigError
from evertune.models import champions
from evertune.models.foreign import adopt_bundle
from evertune.runtime.home import home_of
from evertune.serving.portable import base_files

if TYPE_CHECKING:
    from evertune.config import Recipe

KEY = "training.distill.teacher"
CARD = "evertune.json"  # what tells a bundle from a base model


def registered(recipe: "Recipe") -> str | None:
    """`champion`, or the number of a version, where the teacher is one of the recipe's own models; else None."""
    rule = recipe.training.distill
    return rule.teacher if rule is not None and (rule.teacher == "champion" or rule.teacher.isdecimal()) else None


def folder(recipe: "Recipe") -> Path | None:
    """Where the teacher lies, if what the recipe names is a folder; nothing is looked for.

    Raises:
        ConfigError: a variable of the environment is not set.
    """
    rule = recipe.training.distill
    if rule is None or registered(recipe) is not None or rule.teacher.startswith((champions.PREFIX, "package:")):
        return None
    return (recipe.folder / Path(expand(rule.teacher)).expanduser()).resolve()


def place(recipe: "Recipe") -> Path | None:
    """The folder of a bundle or of a base model (of one on the hub its id); None where there is none, or see above.

    Raises:
        ConfigError: it is not there, or has no opinion of labels where one is asked for.
    """
    rule = recipe.training.distill
    if rule is None or registered(recipe) is not None:
        return None
    text = expand(rule.teacher)
    try:
        found = _folder(recipe, text)
    except OSError as error:
        raise ConfigError(
            f"{KEY}: {text}: no model is there ({error}); give `champion`, a version's number, champion:NAME, the "
            "folder of a bundle, or a base model"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{KEY}: {error}") from error
    if rule.weight and not (found / CARD).is_file():
        raise ConfigError(
            f"{KEY}: {text} is a base model (no {CARD}): it has no head for the labels, and so no opinion of them; set "
            "training.distill.weight to 0 and hidden above 0, or name a model that was tuned for them"
        )
    return found


def _folder(recipe: "Recipe", text: str) -> Path:
    root = home_of(recipe).root
    if text.startswith(champions.PREFIX):
        return champions.folder(root, text, recipe.name).parent
    own = (recipe.folder / Path(text).expanduser()).resolve()
    if (own / CARD).is_file():
        return adopt_bundle(own, root)
    return Path(base_files.ordinary(base_files.find(text, recipe.folder), root / "base_models"))


def fingerprint(recipe: "Recipe") -> str | None:
    """A digest of the teacher's weights; None as `place`.

    Raises:
        ConfigError: as `place`.
    """
    found = place(recipe)
    if found is None:
        return None
    return base_files.fingerprint(str(found / "model" if (found / CARD).is_file() else found))
