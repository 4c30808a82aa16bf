"""Step 4: the challenger."""

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
from evertune.records import Candidate, Tokens, TooLittle
from evertune.registry.decisions import queries
from evertune.registry.tracking import costs, runs
from evertune.registry.versions import lineage, parity, requirements, teaching, versions
from evertune.runtime.files import read_json
from evertune.runtime.home import home_of
from evertune.serving import bundle
from evertune.tokenization import tokenize
from tasks.step import logger, step

if TYPE_CHECKING:
    import pyarrow as pa

NEEDED = ("row_version", "batch", "part", "split", "component")


@dataclass(frozen=True)
class TrainingSetup:
    """What a training begins with.

    Args:
        folder: of the run.
        champion, version: bundle and version of the champion that it meets, where it matters.
        start: version whose weights it goes on with; of a variant that is its original.
        teacher, taught: folder and digest of the teacher.
    """

    folder: Path
    champion: Path | None
    version: int | None
    start: int | None
    teacher: Path | None
    taught: str | None


@step
def finetune(tokens: Tokens, recipe: Recipe, force: bool = False) -> Candidate | TooLittle:
    """Train, or go on where a crash left the training, in one MLflow run; a whole bundle is taken as it is.

    Where only rows that came since the champion are learned from, a night may bring none: no MLflow run is begun then.
    """
    home = home_of(recipe)
    setup = _resume_setup(recipe, tokens) or _create_setup(recipe, tokens, force)
    folder = setup.folder
    champion = setup.champion
    since = bundle.read_card(champion)["snapshot"]["batch"] if champion else 0
    target = load_objective(recipe.objective.type).TARGET
    snapshot_rows = corpus.read_rows(
        home, tokens.snapshot.version, [*NEEDED, target]
    )  # no inputs: they are in the token files
    rows = label_names.rename_rows(splits.exclude_leaked_rows(snapshot_rows, recipe.data.split), recipe)
    if not (folder / "candidate.json").exists():
        if not force and (short := _find_shortage(rows, recipe, since)):
            return short
        # Its imports take as long as those of training, on another core.
        parity.prepare_check(home, requirements.list_requirements(recipe))
    run = runs.open_run(recipe, home, tokens, folder)
    with runs.fail_on_error(home, run.run_id):
        teacher_version = teaching.find_teacher_version(recipe, setup.version)
        origins = {"teacher": setup.taught, "teacher_version": teacher_version, "start": setup.start}
        if tags := {key: value for key, value in origins.items() if value is not None}:
            run.set_tags(**tags)
        candidate = training.finetune_model(
            recipe,
            home,
            tokens,
            tokenize.load_tokens(tokens, rows),
            rows,
            run_id=run.run_id,
            folder=folder,
            log=run.log_metrics,
            champion=champion,
            since=since,
            teacher=setup.teacher,
        )
        share = {} if candidate.trained is None else {costs.SHARE: candidate.trained}
        run.log_metrics({costs.SECONDS: candidate.seconds, **share}, candidate.steps)
        run.send_metrics()
    logger.info(
        "finetune: %s steps, loss %.3f, %.0f s", f"{candidate.steps:,}", candidate.train_loss, candidate.seconds
    )
    return candidate


def _find_shortage(rows: "pa.Table", recipe: Recipe, since: int) -> TooLittle | None:
    """Without a champion, or where all rows are learned from, what they lack is an error that a person must mend."""
    train_on = recipe.data.fresh.train_on
    if not since or train_on == "all":
        return None
    lack = training.explain_missing_rows(rows, recipe, since)
    wait = f"data.fresh.train_on is {train_on}, so nothing is trained until others come (all: trains now)"
    return TooLittle(f"{lack}; {wait}") if lack else None


def _create_setup(recipe: Recipe, tokens: Tokens, anew: bool) -> TrainingSetup:
    """From the champion of now, where the recipe asks for one."""
    version = versions.find_champion(home_of(recipe), recipe.registered_name) if _needs_champion(recipe) else None
    return _build_setup(recipe, tokens, version, anew)


def _resume_setup(recipe: Recipe, tokens: Tokens) -> TrainingSetup | None:
    """The run that made the champion of now and was cut off before its end: it goes on from the champion that it met.

    None where the rows or the recipe are others by now, or no run was cut off there.
    """
    interrupted = (
        queries.find_champion_run(home_of(recipe), recipe.registered_name) if _needs_champion(recipe) else None
    )
    if interrupted is None:
        return None
    try:
        setup = _build_setup(recipe, tokens, interrupted.champion)
    except RegistryError:  # the files of the one it met are gone
        return None
    is_same_run = (read_json(setup.folder / "run.json") or {}).get("run_id") == interrupted.run_id
    return setup if is_same_run and not (setup.folder / "concluded").exists() else None


def _needs_champion(recipe: Recipe) -> bool:
    """Whether a training needs to know the champion."""
    return _builds_on_champion(recipe) or teachers.registered_teacher(recipe) == "champion"


def _builds_on_champion(recipe: Recipe) -> bool:
    """Whether a training builds on the champion: on its weights, or on what it has learned from."""
    return (recipe.data.fresh.start_from, recipe.data.fresh.train_on) != ("base", "all")


def _build_setup(recipe: Recipe, tokens: Tokens, version: int | None, anew: bool = False) -> TrainingSetup:
    """With this version as the champion; None where there is none yet."""
    teacher, teacher_digest = teaching.find_teacher(recipe, version) or (None, None)
    champion, start = (
        _find_champion(recipe, version) if version is not None and _builds_on_champion(recipe) else (None, None)
    )
    digest = bundle.compute_digest(champion) if champion else None
    folder = training.run_folder(
        home_of(recipe), training.fingerprint_training(recipe, tokens, digest, teacher_digest), anew=anew
    )
    return TrainingSetup(folder, champion, version, start, teacher, teacher_digest)


def _find_champion(recipe: Recipe, version: int) -> tuple[Path, int | None]:
    """The bundle of a champion, and the version whose weights are gone on with; of a variant those of its original."""
    home = home_of(recipe)
    name = recipe.registered_name
    try:
        folder = versions.fetch_bundle(home, name, version)
        if recipe.data.fresh.start_from != "champion":
            return folder, None
        if (variant := bundle.read_card(folder).get("compression")) is not None:
            version = lineage.find_original(home, name, version, variant)
            folder = versions.fetch_bundle(home, name, version)
        return folder, version
    except RegistryError as error:
        raise RegistryError(
            f"{error}; without it train anew from the base: `evertune run RECIPE --set data.fresh.start_from=base "
            "--set data.fresh.train_on=all`"
        ) from None
