"""Step 1: rows that no run has seen, staged."""

from evertune import corpus, sources
from evertune.config import Recipe
from evertune.home import home_of
from evertune.records import Batch
from tasks.step import said, step


@step
def ingest(recipe: Recipe) -> Batch:
    """Read the sources and stage what is fresh; safe to repeat."""
    batch = corpus.ingest(recipe, home_of(recipe), lambda seen: sources.read(recipe, seen))
    said.info("ingest: %s fresh rows of %s read", f"{batch.rows:,}", f"{batch.read:,}")
    return batch
