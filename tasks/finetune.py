"""Step 4: the challenger."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.runtime.files import read_json

from evertune import training
from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.errors import RegistryError
from evertune.models import teachers
from evertune.objectives import module
from evertune.records import Candidate, Tokens, TooLittle
from evertune.registry.decisions import queries as decisions
from evertune.registry.tracking import costs
from evertune.registry.tracking import runs as tracking
from evertune.registry.versions import lineage, parity, requirements, teaching
from evertune.registry.versions import versions as models
from evertune.runtime.home import home_of
from evertune.serving import bundle
from evertune.tokenization import tokenize as tokenization
from tasks.step import said, step

if TYPE_CHECKING:
    import pyarrow as pa

NEEDED = ("row_version", "batch", "part", "split", "component")


@dataclass(frozen=True)
class Begin:
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
    begin = _begun(recipe, tokens) or _new(recipe, tokens, force)
    folder, champion = begin.folder, begin.champion
    since = bundle.card(champion)["snapshot"]["batch"] if champion else 0
    target = module(recipe.objective.type).TARGET
    found = corpus.rows(home, tokens.snapshot.version, [*NEEDED, target])  # no inputs: they are in the token files
    rows = relabel.rows(splits.apart(found, recipe.data.split), recipe)
    if not (folder / "candidate.json").exists():
        if not force and (short := _too_little(rows, recipe, since)):
            return short
        # Its imports take as long as those of training, on another core.
        parity.prepare(home, requirements.required(recipe))
    run = tracking.begin(recipe, home, tokens, folder)
    with tracking.failing(home, run.run_id):
        number = teaching.version(recipe, begin.version)
        origins = {"teacher": begin.taught, "teacher_version": number, "start": begin.start}
        if known := {key: value for key, value in origins.items() if value is not None}:
            run.tag(**known)
        candidate = training.finetune(
            recipe, home, tokens, tokenization.load(tokens, rows), rows, run_id=run.run_id, folder=folder, log=run.log,
            champion=champion, since=since, teacher=begin.teacher,
        )  # fmt: skip
        share = {} if candidate.trained is None else {costs.SHARE: candidate.trained}
        run.log({costs.SECONDS: candidate.seconds, **share}, candidate.steps)
        run.flush()
    said.info("finetune: %s steps, loss %.3f, %.0f s", f"{candidate.steps:,}", candidate.train_loss, candidate.seconds)
    return candidate


def _too_little(rows: "pa.Table", recipe: Recipe, since: int) -> TooLittle | None:
    """Without a champion, or where all rows are learned from, what they lack is an error that a person must mend."""
    how = recipe.data.fresh.train_on
    if not since or how == "all":
        return None
    lack = training.lacking(rows, recipe, since)
    wait = f"data.fresh.train_on is {how}, so nothing is trained until others come (all: trains now)"
    return TooLittle(f"{lack}; {wait}") if lack else None


def _new(recipe: Recipe, tokens: Tokens, anew: bool) -> Begin:
    """From the champion of now, where the recipe asks for one."""
    now = models.champion(home_of(recipe), recipe.registered_name) if _asks(recipe) else None
    return _from(recipe, tokens, now, anew)


def _begun(recipe: Recipe, tokens: Tokens) -> Begin | None:
    """The run that made the champion of now and was cut off before its end: it goes on from the champion that it met.

    None where the rows or the recipe are others by now, or no run was cut off there.
    """
    cut = decisions.made_champion(home_of(recipe), recipe.registered_name) if _asks(recipe) else None
    if cut is None:
        return None
    try:
        begin = _from(recipe, tokens, cut.champion)
    except RegistryError:  # the files of the one it met are gone
        return None
    same = (read_json(begin.folder / "run.json") or {}).get("run_id") == cut.run_id
    return begin if same and not (begin.folder / "concluded").exists() else None


def _asks(recipe: Recipe) -> bool:
    """Whether a training needs to know the champion."""
    return _builds(recipe) or teachers.registered(recipe) == "champion"


def _builds(recipe: Recipe) -> bool:
    """Whether a training builds on the champion: on its weights, or on what it has learned from."""
    return (recipe.data.fresh.start_from, recipe.data.fresh.train_on) != ("base", "all")


def _from(recipe: Recipe, tokens: Tokens, version: int | None, anew: bool = False) -> Begin:
    """With this version as the champion; None where there is none yet."""
    teacher, taught = teaching.find(recipe, version) or (None, None)
    champion, start = _champion(recipe, version) if version is not None and _builds(recipe) else (None, None)
    digest = bundle.digest(champion) if champion else None
    folder = training.run_folder(home_of(recipe), training.fingerprint(recipe, tokens, digest, taught), anew=anew)
    return Begin(folder, champion, version, start, teacher, taught)


def _champion(recipe: Recipe, version: int) -> tuple[Path, int | None]:
    """The bundle of a champion, and the version whose weights are gone on with; of a variant those of its original."""
    home, name = home_of(recipe), recipe.registered_name
    try:
        folder = models.bundle_of(home, name, version)
        if recipe.data.fresh.start_from != "champion":
            return folder, None
        if (variant := bundle.card(folder).get("compression")) is not None:
            version = lineage.original(home, name, version, variant)
            folder = models.bundle_of(home, name, version)
        return folder, version
    except RegistryError as error:
        raise RegistryError(
            f"{error}; without it train anew from the base: `evertune run RECIPE --set data.fresh.start_from=base "
            "--set data.fresh.train_on=all`"
        ) from None
