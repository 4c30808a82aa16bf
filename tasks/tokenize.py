"""Step 3: the snapshot's rows as token ids."""

from evertune import corpus, tokenization
from evertune.config import Recipe
from evertune.home import home_of
from evertune.records import Snapshot, Tokens
from tasks.step import step


@step
def tokenize(snapshot: Snapshot, recipe: Recipe) -> Tokens:
    """Encode the rows that no token file holds; a kept result would not notice that a file is gone or damaged."""
    home = home_of(recipe)
    return tokenization.tokenize(recipe, home, snapshot, corpus.rows(home, snapshot.version))
