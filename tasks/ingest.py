"""Step 1: rows that no run has seen, staged."""

from evertune import corpus, sources
from evertune.config import Recipe
from evertune.home import home_of
from evertune.records import Batch
from tasks.step import step


@step()
def ingest(recipe: Recipe) -> Batch:
    """Read the sources and stage what is fresh; safe to repeat."""
    return corpus.ingest(recipe, home_of(recipe), lambda seen: sources.read(recipe, seen))
