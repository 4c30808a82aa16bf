"""What commands do first that work on a recipe's rows outside of a run: take in what the sources hold."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Snapshot
    from evertune.runtime.home import Home

WAIT = 2.0  # seconds that another run may take to end


def ingest_sources(recipe: "Recipe", home: "Home") -> "Snapshot":
    """The corpus with all that the sources hold now."""
    from evertune.data import admission
    from evertune.data.corpus import transactions
    from evertune.data.sources import read as sources
    from evertune.runs import up_to_date

    with home.lock("run", timeout=WAIT), up_to_date.open_file_cache(home) as cache:
        batch = transactions.ingest_rows(recipe, home, lambda seen: sources.read_sources(recipe, seen, cache))
        return admission.admit_batch(batch, recipe, home, home.data_docs / f"{batch.number:06d}")[0]
