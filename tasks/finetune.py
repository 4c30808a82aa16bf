"""Step 4: the challenger."""

from pathlib import Path
from typing import TYPE_CHECKING

from evertune import bundle, corpus, relabel, splits, teachers, tokenization, training
from evertune.config import Recipe
from evertune.errors import ConfigError, RegistryError
from evertune.home import home_of
from evertune.objectives import module
from evertune.records import Candidate, Tokens, TooLittle
from evertune.registry import costs, models, parity, requirements, tracking
from tasks.step import said, step

if TYPE_CHECKING:
    import pyarrow as pa

NEEDED = ("row_version", "batch", "part", "split", "component")


@step
def finetune(tokens: Tokens, recipe: Recipe, force: bool = False) -> Candidate | TooLittle:
    """Train, or go on where a crash left the training, in one MLflow run; a whole bundle is taken as it is.

    Where only rows that came since the champion are learned from, a night may bring none: no MLflow run is begun then.
    """
    home = home_of(recipe)
    champion = (
        _champion(recipe) if (recipe.data.fresh.start_from, recipe.data.fresh.train_on) != ("base", "all") else None
    )
    digest = bundle.digest(champion) if champion else None
    teacher = _teacher(recipe)
    taught = (teachers.fingerprint(recipe) or bundle.digest(teacher)) if teacher else None
    folder = training.run_folder(home, training.fingerprint(recipe, tokens, digest, taught), anew=force)
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


def _teacher(recipe: Recipe) -> Path | None:
    """The bundle or base model that `training.distill.teacher` names; None where there is no teacher."""
    home, model, asked = home_of(recipe), recipe.registered_name, teachers.registered(recipe)
    if asked is None:
        return teachers.place(recipe)
    version = models.champion(home, model) if asked == "champion" else int(asked)
    if version is None:
        raise ConfigError(
            f"{teachers.KEY}: {model} has no champion yet; name the folder of a bundle, or train one first"
        )
    return models.bundle_of(home, model, version)


def _champion(recipe: Recipe) -> Path | None:
    home, name = home_of(recipe), recipe.registered_name
    version = models.champion(home, name)
    try:
        return models.bundle_of(home, name, version) if version is not None else None
    except RegistryError as error:
        raise RegistryError(
            f"{error}; without it train anew from the base: `evertune run RECIPE --set data.fresh.start_from=base "
            "--set data.fresh.train_on=all`"
        ) from None
