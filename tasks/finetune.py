"""Step 4: the challenger."""

from evertune import training
from evertune.config import Recipe
from evertune.records import Candidate, Tokens, TooLittle
from evertune.registry.tracking import queries, runs
from evertune.registry.versions import parity, requirements
from evertune.runs import training_start
from evertune.runtime.context import open_context
from evertune.tokenization import tokenize
from tasks.step import logger, step


@step
def finetune(tokens: Tokens, recipe: Recipe, force: bool = False) -> Candidate | TooLittle:
    """Train a challenger in one MLflow run; continue after a crash, and reuse a finished training.

    If the recipe trains only on rows that came since the champion and they are too few, no run is begun.
    """
    context = open_context(recipe)
    start = training_start.find_start(recipe, tokens, anew=force)
    rows = training_start.load_training_rows(recipe, tokens.snapshot.version)
    if not start.is_trained():
        shortage = None if force else training_start.find_shortage(rows, recipe, start.since)
        if shortage is not None:
            return shortage
        # The parity check's process imports on another core while the training imports here.
        parity.prepare_check(context.home, requirements.list_requirements(recipe))

    run = runs.open_run(context, tokens, start.folder)
    with runs.fail_on_error(context.home, run.run_id):
        run.set_tags(**training_start.describe_parents(recipe, start))
        candidate = training.finetune_model(
            context,
            tokens,
            tokenize.load_tokens(tokens, rows),
            rows,
            run_id=run.run_id,
            folder=start.folder,
            log=run.log_metrics,
            champion=start.champion,
            since=start.since,
            teacher=start.teacher,
        )
        run.log_metrics(queries.summarize_training(candidate), candidate.steps)
        run.send_metrics()
    logger.info(
        "finetune: %s steps, loss %.3f, %.0f s", f"{candidate.steps:,}", candidate.train_loss, candidate.seconds
    )
    return candidate
