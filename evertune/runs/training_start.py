"""What a training begins with: which champion, which teacher, which rows, in which folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evertune import training
from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.errors import RegistryError
from evertune.models import teachers
from evertune.objectives import load_objective
from evertune.records import Tokens, TooLittle
from evertune.registry.decisions import queries
from evertune.registry.versions import lineage, teaching, versions
from evertune.runtime.files import read_json
from evertune.runtime.home import home_of
from evertune.serving import bundle

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("row_version", "batch", "part", "split", "component")  # no inputs: they are in the token files


@dataclass(frozen=True)
class TrainingStart:
    """What a training begins with.

    Args:
        folder: of the run.
        champion: bundle of the champion; None where the training does not build on one.
        champion_version: its version; None also where the recipe does not ask for the champion.
        initial_version: version whose weights the training continues; of a compressed variant its original.
        teacher: folder of the teacher.
        teacher_digest: digest of its files.
    """

    folder: Path
    champion: Path | None
    champion_version: int | None
    initial_version: int | None
    teacher: Path | None
    teacher_digest: str | None

    @property
    def since(self) -> int:
        """Number of the newest batch that the champion knew; 0 without a champion."""
        return int(bundle.read_card(self.champion)["snapshot"]["batch"]) if self.champion else 0

    def is_trained(self) -> bool:
        """Return whether the training in this folder has ended."""
        return (self.folder / "candidate.json").exists()


def find_start(recipe: Recipe, tokens: Tokens, *, anew: bool = False) -> TrainingStart:
    """Return the start of an interrupted training if there is one, else that of a training from today's champion.

    Args:
        anew: use a new folder if the same training was concluded before; an interrupted one continues all the same.
    Raises:
        RegistryError: MLflow does not answer, or the champion's files are missing.
        ConfigError: the teacher is not there.
    """
    interrupted = resume_training(recipe, tokens)
    return begin_training(recipe, tokens, anew=anew) if interrupted is None else interrupted


def begin_training(recipe: Recipe, tokens: Tokens, *, anew: bool = False) -> TrainingStart:
    """Return the start of a training from today's champion, where the recipe asks for one.

    Args:
        anew: use a new folder if the same training was concluded before; an interrupted one continues all the same.
    Raises:
        RegistryError: MLflow does not answer, or the champion's files are missing.
        ConfigError: the teacher is not there.
    """
    version = versions.find_champion(home_of(recipe), recipe.registered_name) if needs_champion(recipe) else None
    return build_start(recipe, tokens, version, anew=anew)


def resume_training(recipe: Recipe, tokens: Tokens) -> TrainingStart | None:
    """Return the start of the run that made today's champion, if a crash cut that run off before its end.

    That run met another champion than today's, and continues from that one. None where no run was cut off there, or
    where rows or recipe have changed since.

    Raises:
        RegistryError: MLflow does not answer.
        ConfigError: the teacher is not there.
    """
    if not needs_champion(recipe):
        return None
    interrupted = queries.find_champion_run(home_of(recipe), recipe.registered_name)
    if interrupted is None:
        return None
    try:
        start = build_start(recipe, tokens, interrupted.champion)
    except RegistryError:  # the files of the champion that it met are gone
        return None
    run = read_json(start.folder / "run.json") or {}
    is_same_run = run.get("run_id") == interrupted.run_id
    is_concluded = (start.folder / "concluded").exists()
    return start if is_same_run and not is_concluded else None


def build_start(recipe: Recipe, tokens: Tokens, champion_version: int | None, *, anew: bool = False) -> TrainingStart:
    """Return the start of a training that meets this version as the champion.

    Args:
        champion_version: None without a champion.
        anew: use a new folder if the same training was concluded before; an interrupted one continues all the same.
    Raises:
        RegistryError: MLflow does not answer, or the champion's files are missing.
        ConfigError: the teacher is not there.
    """
    teacher, teacher_digest = teaching.find_teacher(recipe, champion_version) or (None, None)
    champion, initial_version = None, None
    if champion_version is not None and builds_on_champion(recipe):
        champion, initial_version = _fetch_champion(recipe, champion_version)
    champion_digest = bundle.compute_digest(champion) if champion else None
    fingerprint = training.fingerprint_training(recipe, tokens, champion_digest, teacher_digest)
    folder = training.run_folder(home_of(recipe), fingerprint, anew=anew)
    return TrainingStart(folder, champion, champion_version, initial_version, teacher, teacher_digest)


def needs_champion(recipe: Recipe) -> bool:
    """Return whether a training needs to know the champion: it builds on it, or learns from it as its teacher."""
    return builds_on_champion(recipe) or teachers.registered_teacher(recipe) == "champion"


def builds_on_champion(recipe: Recipe) -> bool:
    """Return whether a training builds on the champion: on its weights, or on the rows that it was trained on."""
    fresh = recipe.data.fresh
    return (fresh.start_from, fresh.train_on) != ("base", "all")


def load_training_rows(recipe: Recipe, version: int) -> "pa.Table":
    """Return a snapshot's rows without their inputs, and without those that leaked into another split.

    Args:
        version: of the corpus.
    Raises:
        DataError: the corpus cannot be read.
    """
    target = load_objective(recipe.objective.type).TARGET
    rows = corpus.read_rows(home_of(recipe), version, [*COLUMNS, target])
    return label_names.rename_rows(splits.exclude_leaked_rows(rows, recipe.data.split), recipe)


def find_shortage(rows: "pa.Table", recipe: Recipe, since: int) -> TooLittle | None:
    """Return why the rows that came since the champion are too few to train on; None where they are enough.

    Without a champion, or where all rows are trained on, waiting helps nobody: training then raises an error.

    Args:
        since: newest batch that the champion knew; 0 without a champion.
    """
    train_on = recipe.data.fresh.train_on
    if not since or train_on == "all":
        return None
    missing = training.explain_missing_rows(rows, recipe, since)
    if not missing:
        return None
    return TooLittle(
        f"{missing}; data.fresh.train_on is {train_on}, so training waits for more rows (set it to all to train now)"
    )


def describe_parents(recipe: Recipe, start: TrainingStart) -> dict[str, int | str]:
    """Return the tags of the run that name its teacher and the version that it started from; those that it has.

    Raises:
        RegistryError: MLflow does not answer.
        ConfigError: the champion is the teacher, and there is none.
    """
    parents = {
        "teacher": start.teacher_digest,
        "teacher_version": teaching.find_teacher_version(recipe, start.champion_version),
        "start": start.initial_version,
    }
    return {name: value for name, value in parents.items() if value is not None}


def _fetch_champion(recipe: Recipe, version: int) -> tuple[Path, int | None]:
    """Return the champion's bundle, and the version whose weights the training continues."""
    home = home_of(recipe)
    name = recipe.registered_name
    try:
        folder = versions.fetch_bundle(home, name, version)
        if recipe.data.fresh.start_from != "champion":
            return folder, None
        variant = bundle.read_card(folder).get("compression")
        if variant is not None:  # a compressed variant cannot be trained: its original can
            version = lineage.find_original(home, name, version, variant)
            folder = versions.fetch_bundle(home, name, version)
        return folder, version
    except RegistryError as error:
        raise RegistryError(
            f"{error}; to train from the base model instead: `evertune run RECIPE --set data.fresh.start_from=base "
            "--set data.fresh.train_on=all`"
        ) from None
