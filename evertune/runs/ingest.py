"""Ingest what the sources hold outside of a run: for commands that work on a recipe's rows."""

from typing import TYPE_CHECKING

from evertune.data import admission
from evertune.data.corpus import transactions
from evertune.data.sources import read as sources
from evertune.runs import up_to_date

if TYPE_CHECKING:
    from evertune.records import Snapshot
    from evertune.runtime.context import RunContext

WAIT = 2.0  # seconds that another run may take to end


def ingest_sources(context: "RunContext") -> "Snapshot":
    """Ingest every row that no run has seen yet, and return the corpus with all of them.

    Raises:
        ConfigError: the recipe's expectations or columns do not fit the rows.
        DataError: a source cannot be read, or the contract refuses too many rows.
        RegistryError: a run of this recipe is at work.
    """
    with context.home.lock("run", timeout=WAIT), up_to_date.open_file_cache(context.home) as cache:
        batch = transactions.ingest_rows(context, lambda seen: sources.read_sources(context.recipe, seen, cache))
        return admission.admit_batch(batch, context, context.home.data_docs / f"{batch.number:06d}")[0]
