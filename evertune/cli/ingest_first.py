"""What commands do first that work on a recipe's rows outside of a run: take in what the sources hold."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Snapshot
    from evertune.runtime.home import Home

WAIT = 2.0  # seconds that another run may take to end


def taken_in(recipe: "Recipe", home: "Home") -> "Snapshot":
    """The corpus with all that the sources hold now."""
    from evertune.data import admission
    from evertune.data.corpus import transactions as corpus
    from evertune.data.sources import read as sources
    from evertune.runs import up_to_date as conclusion

    with home.lock("run", timeout=WAIT), conclusion.files_read(home) as cache:
        batch = corpus.ingest(recipe, home, lambda seen: sources.read(recipe, seen, cache))
        return admission.admit(batch, recipe, home, home.data_docs / f"{batch.number:06d}")[0]
