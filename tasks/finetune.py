"""Step 4: the challenger."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune import bundle, corpus, relabel, splits, tokenization, training
from evertune.config import Recipe
from evertune.errors import RegistryError
from evertune.home import home_of, read_json
from evertune.objectives import module
from evertune.records import Candidate, Tokens, TooLittle
from evertune.registry import costs, models, parity, promotion, requirements, teaching, tracking
from tasks.step import said, step

if TYPE_CHECKING:
    import pyarrow as pa

Begin = tuple[Path, Path | None, int | None]  # the run's folder; the champion's bundle and version
NEEDED = ("row_version", "batch", "part", "split", "component")


@step
def finetune(tokens: Tokens, recipe: Recipe, force: bool = False) -> Candidate | TooLittle:
    """Train, or go on where a crash left the training, in one MLflow run; a whole bundle is taken as it is.

    Where only rows that came since the champion are learned from, a night may bring none: no MLflow run is begun then.
    """
    home, fresh = home_of(recipe), recipe.data.fresh
    teacher, taught = teaching.find(recipe) or (None, None)
    folder, champion, start = _begun(recipe, tokens, taught) or _new(recipe, tokens, taught, force)
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
        origins = {"teacher": taught, "teacher_version": teaching.version(recipe)}
        origins["start"] = start if fresh.start_from == "champion" else None
        if known := {key: value for key, value in origins.items() if value is not None}:
            run.tag(**known)
        candidate = training.finetune(
            recipe, home, tokens, tokenization.load(tokens, rows), rows, run_id=run.run_id, folder=folder, log=run.log,
            champion=champion, since=since, teacher=teacher,
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


def _new(recipe: Recipe, tokens: Tokens, taught: str | None, anew: bool) -> Begin:
    """From the champion of now, where the recipe asks for one."""
    champion, version = None, None
    if _builds(recipe):
        champion, version = _champion(recipe, models.champion(home_of(recipe), recipe.registered_name))
    return _folder(recipe, tokens, taught, champion, anew), champion, version


def _begun(recipe: Recipe, tokens: Tokens, taught: str | None) -> Begin | None:
    """The run that made the champion of now and was cut off before its end: it goes on from the champion that it met.

    None where the rows or the recipe are others by now, or no run was cut off there.
    """
    cut = promotion.made_champion(home_of(recipe), recipe.registered_name) if _builds(recipe) else None
    if cut is None:
        return None
    try:
        champion, version = _champion(recipe, cut.champion)
    except RegistryError:  # the files of the one it met are gone
        return None
    folder = _folder(recipe, tokens, taught, champion)
    same = (read_json(folder / "run.json") or {}).get("run_id") == cut.run_id
    return (folder, champion, version) if same and not (folder / "concluded").exists() else None


def _builds(recipe: Recipe) -> bool:
    """Whether a training needs to know the champion."""
    return (recipe.data.fresh.start_from, recipe.data.fresh.train_on) != ("base", "all")


def _folder(recipe: Recipe, tokens: Tokens, taught: str | None, champion: Path | None, anew: bool = False) -> Path:
    digest = bundle.digest(champion) if champion else None
    return training.run_folder(home_of(recipe), training.fingerprint(recipe, tokens, digest, taught), anew=anew)


def _champion(recipe: Recipe, version: int | None) -> tuple[Path | None, int | None]:
    """The bundle of a champion and its version; None where there is none yet."""
    home, name = home_of(recipe), recipe.registered_name
    try:
        return (models.bundle_of(home, name, version) if version is not None else None), version
    except RegistryError as error:
        raise RegistryError(
            f"{error}; without it train anew from the base: `evertune run RECIPE --set data.fresh.start_from=base "
            "--set data.fresh.train_on=all`"
        ) from None
