"""Step 2: fresh rows through the contract; accepted rows to the corpus, refused rows to quarantine."""

from functools import partial

from evertune.config import Recipe
from evertune.data import admission
from evertune.records import Batch, Snapshot
from evertune.registry.tracking import store
from evertune.runs import doubtful_labels
from evertune.runtime.context import open_context
from tasks import engine
from tasks.artifacts import show_rows
from tasks.step import logger, step

NEXT = ("torch", "transformers", "transformers.trainer")  # modules that the next steps import


@step
def validate(batch: Batch, recipe: Recipe) -> Snapshot:
    """Check, split and commit the batch; each table gets it once, however often this runs."""
    context = open_context(recipe)
    docs = context.home.data_docs / f"{batch.number:06d}"
    spread = engine.spread_jobs if engine.find_cluster() else None
    snapshot, _ = admission.admit_batch(
        batch,
        context,
        docs,
        NEXT,
        partial(store.create_own_store, context.home),
        spread,
        partial(doubtful_labels.review_labels, context, batch.number),
    )
    logger.info("validate: %s rows accepted, %s refused", f"{snapshot.accepted:,}", f"{snapshot.refused:,}")
    show_rows(recipe.name, snapshot)
    return snapshot
