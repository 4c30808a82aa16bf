"""Where a recipe's teacher lies, if not in the recipe's own registry."""

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
CARD = "evertune.json"  # what tells a bundle from a base model


def registered_teacher(recipe: "Recipe") -> str | None:
    """`champion`, or the number of a version, where the teacher is one of the recipe's own models; else None."""
    rule = recipe.training.distill
    return rule.teacher if rule is not None and (rule.teacher == "champion" or rule.teacher.isdecimal()) else None


def teacher_folder(recipe: "Recipe") -> Path | None:
    """Where the teacher lies, if what the recipe names is a folder; nothing is looked for.

    Raises:
        ConfigError: a variable of the environment is not set.
    """
    rule = recipe.training.distill
    if (
        rule is None
        or registered_teacher(recipe) is not None
        or rule.teacher.startswith((champions.PREFIX, "package:"))
    ):
        return None
    return (recipe.folder / Path(expand_variables(rule.teacher)).expanduser()).resolve()


def locate_teacher(recipe: "Recipe") -> Path | None:
    """The folder of a bundle or of a base model (of one on the hub its id); None where there is none, or see above.

    Raises:
        ConfigError: it is not there, or has no opinion of labels where one is asked for.
    """
    rule = recipe.training.distill
    if rule is None or registered_teacher(recipe) is not None:
        return None
    text = expand_variables(rule.teacher)
    try:
        teacher_path = _find_folder(recipe, text)
    except OSError as error:
        raise ConfigError(
            f"{KEY}: {text}: no model is there ({error}); give `champion`, a version's number, champion:NAME, the "
            "folder of a bundle, or a base model"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{KEY}: {error}") from error
    if rule.weight and not (teacher_path / CARD).is_file():
        raise ConfigError(
            f"{KEY}: {text} is a base model (no {CARD}): it has no head for the labels, and so no opinion of them; set "
            "training.distill.weight to 0 and hidden above 0, or name a model that was tuned for them"
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
    """A digest of the teacher's weights; None as `place`.

    Raises:
        ConfigError: as `place`.
    """
    teacher_path = locate_teacher(recipe)
    if teacher_path is None:
        return None
    return base_files.compute_fingerprint(
        str(teacher_path / "model" if (teacher_path / CARD).is_file() else teacher_path)
    )
