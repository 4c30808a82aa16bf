"""Step 1: rows that no run has seen, staged."""

from collections.abc import Iterator
from typing import Any

from evertune.audit.forgetting import forget as forgetting
from evertune.config import Recipe
from evertune.data import admission
from evertune.data.corpus import transactions as corpus
from evertune.data.sources import read as sources
from evertune.records import Batch
from evertune.runs import recipe_changes
from evertune.runs import up_to_date as conclusion
from evertune.runtime.home import home_of
from tasks.step import said, step


@step
def ingest(recipe: Recipe) -> Batch:
    """Read the sources and stage what is fresh; safe to repeat."""
    home = home_of(recipe)
    forgetting.resume(home)
    for change in recipe_changes.since(recipe, home):
        said.warning("the recipe has changed: %s", change)
    with conclusion.files_read(home) as cache:
        batch = corpus.ingest(recipe, home, lambda seen: _read(recipe, seen, cache))
    said.info("ingest: %s fresh rows of %s read", f"{batch.rows:,}", f"{batch.read:,}")
    return batch


def _read(recipe: Recipe, seen: dict[str, str], cache: dict[str, Any]) -> Iterator[Any]:
    """What the sources hold; with the first of it, the process starts that will judge it."""
    for piece in sources.read(recipe, seen, cache):
        admission.prepare()
        yield piece
