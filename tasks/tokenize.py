"""Step 3: the snapshot's rows as token ids."""

from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data import minimum_rows
from evertune.data.corpus import transactions as corpus
from evertune.objectives import load_objective
from evertune.records import Snapshot, Tokens
from evertune.runtime.context import open_context
from evertune.tokenization import tokenize as tokenization
from tasks import engine
from tasks.step import step

if TYPE_CHECKING:
    import pyarrow as pa


@step
def tokenize(snapshot: Snapshot, recipe: Recipe) -> Tokens:
    """Encode the rows that no token file has yet, if there are enough rows to train and test on."""
    minimum_rows.check_row_counts(snapshot.rows, recipe)
    context = open_context(recipe)
    spread = engine.spread_jobs if engine.find_cluster() else None
    version = snapshot.version
    roles = load_objective(recipe.objective.type).encoded_roles
    rows = corpus.read_rows(context.home, version, ["row_version", "batch", "part", "split"])

    def read_inputs(batch: int) -> "pa.Table":
        return corpus.read_rows(context.home, version, ["row_version", *roles], since=batch - 1)

    return tokenization.tokenize_rows(context, snapshot, rows, spread, read_inputs)
