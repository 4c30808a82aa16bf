"""Ingest what the sources hold outside of a run: for commands that work on a recipe's rows."""

from typing import TYPE_CHECKING

from evertune.data import admission
from evertune.data.corpus import transactions
from evertune.data.sources import read as sources
from evertune.runs import up_to_date
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Snapshot

WAIT = 2.0  # seconds that another run may take to end


def ingest_sources(recipe: "Recipe", home: Home) -> "Snapshot":
    """Ingest every row that no run has seen yet, and return the corpus with all of them.

    Raises:
        ConfigError: the recipe's expectations or columns do not fit the rows.
        DataError: a source cannot be read, or the contract refuses too many rows.
        RegistryError: a run of this recipe is at work.
    """
    with home.lock("run", timeout=WAIT), up_to_date.open_file_cache(home) as cache:
        batch = transactions.ingest_rows(recipe, home, lambda seen: sources.read_sources(recipe, seen, cache))
        return admission.admit_batch(batch, recipe, home, home.data_docs / f"{batch.number:06d}")[0]
