"""Step 1: rows that no run has seen, staged."""

from collections.abc import Iterator

from evertune.audit.forgetting import forget
from evertune.config import Recipe
from evertune.data import admission
from evertune.data.corpus import transactions as corpus
from evertune.data.sources import read as sources
from evertune.records import Batch
from evertune.runs import recipe_changes, up_to_date
from evertune.runtime.context import open_context
from tasks.step import logger, step


@step
def ingest(recipe: Recipe) -> Batch:
    """Read the sources and stage the fresh rows; safe to repeat."""
    context = open_context(recipe)
    forget.resume_forgetting(context.home)
    for change in recipe_changes.find_changes(context):
        logger.warning("the recipe has changed: %s", change)
    with up_to_date.open_file_cache(context.home) as cache:
        batch = corpus.ingest_rows(context, lambda seen: _read_sources(recipe, seen, cache))
    logger.info("ingest: %s rows read, %s of them fresh", f"{batch.read:,}", f"{batch.rows:,}")
    return batch


def _read_sources(recipe: Recipe, seen: dict[str, str], cache: up_to_date.FileCache) -> Iterator[sources.Piece]:
    """Yield the chunks of the sources; at the first one, start the process that will validate them."""
    for chunk in sources.read_sources(recipe, seen, cache):
        admission.start_validator()
        yield chunk
