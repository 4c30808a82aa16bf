"""Step 3: the snapshot's rows as token ids."""

from evertune import corpus, shortage, tokenization
from evertune.config import Recipe
from evertune.home import home_of
from evertune.records import Snapshot, Tokens
from tasks import engine
from tasks.step import step


@step
def tokenize(snapshot: Snapshot, recipe: Recipe) -> Tokens:
    """Encode the rows that no token file holds, if there are enough to train and test on.

    A kept result would not notice that a file is gone or damaged.
    """
    shortage.check(snapshot.rows, recipe)
    home = home_of(recipe)
    spread = engine.spread if engine.cluster() else None
    return tokenization.tokenize(recipe, home, snapshot, corpus.rows(home, snapshot.version), spread)
