"""Step 4: the challenger."""

from pathlib import Path

from evertune import bundle, corpus, relabel, splits, tokenization, training
from evertune.config import Recipe
from evertune.errors import RegistryError
from evertune.home import home_of
from evertune.objectives import module
from evertune.records import Candidate, Tokens
from evertune.registry import costs, models, parity, requirements, teaching, tracking
from tasks.step import said, step

NEEDED = ("row_version", "batch", "part", "split", "component")


@step
def finetune(tokens: Tokens, recipe: Recipe, force: bool = False) -> Candidate:
    """Train, or go on where a crash left the training, in one MLflow run; a whole bundle is taken as it is."""
    home = home_of(recipe)
    fresh = recipe.data.fresh
    champion, start = _champion(recipe) if (fresh.start_from, fresh.train_on) != ("base", "all") else (None, None)
    digest = bundle.digest(champion) if champion else None
    teacher, taught = teaching.find(recipe) or (None, None)
    folder = training.run_folder(home, training.fingerprint(recipe, tokens, digest, taught), anew=force)
    if not (folder / "candidate.json").exists():
        # Its imports take as long as those of training, on another core.
        parity.prepare(home, requirements.required(recipe))
    run = tracking.begin(recipe, home, tokens, folder)
    target = module(recipe.objective.type).TARGET
    found = corpus.rows(home, tokens.snapshot.version, [*NEEDED, target])  # no inputs: they are in the token files
    rows = relabel.rows(splits.apart(found, recipe.data.split), recipe)
    with tracking.failing(home, run.run_id):
        origins = {"teacher": taught, "teacher_version": teaching.version(recipe)}
        origins["start"] = start if fresh.start_from == "champion" else None
        if known := {key: value for key, value in origins.items() if value is not None}:
            run.tag(**known)
        candidate = training.finetune(
            recipe, home, tokens, tokenization.load(tokens, rows), rows, run_id=run.run_id, folder=folder, log=run.log,
            champion=champion, since=bundle.card(champion)["snapshot"]["batch"] if champion else 0,
            teacher=teacher,
        )  # fmt: skip
        share = {} if candidate.trained is None else {costs.SHARE: candidate.trained}
        run.log({costs.SECONDS: candidate.seconds, **share}, candidate.steps)
        run.flush()
    said.info("finetune: %s steps, loss %.3f, %.0f s", f"{candidate.steps:,}", candidate.train_loss, candidate.seconds)
    return candidate


def _champion(recipe: Recipe) -> tuple[Path | None, int | None]:
    """The bundle of the champion and its version; None where there is none yet."""
    home, name = home_of(recipe), recipe.registered_name
    version = models.champion(home, name)
    try:
        return (models.bundle_of(home, name, version) if version is not None else None), version
    except RegistryError as error:
        raise RegistryError(
            f"{error}; without it train anew from the base: `evertune run RECIPE --set data.fresh.start_from=base "
            "--set data.fresh.train_on=all`"
        ) from None
