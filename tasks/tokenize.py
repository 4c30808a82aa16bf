"""Step 3: the snapshot's rows as token ids."""

from evertune import corpus, tokenization
from evertune.config import Recipe
from evertune.home import home_of
from evertune.records import Snapshot, Tokens
from tasks.step import step


@step(key=lambda snapshot, recipe: [snapshot.fingerprint, snapshot.version, tokenization.fingerprint(recipe)])
def tokenize(snapshot: Snapshot, recipe: Recipe) -> Tokens:
    """Encode the rows that no earlier run encoded."""
    home = home_of(recipe)
    return tokenization.tokenize(recipe, home, snapshot, corpus.rows(home, snapshot.version))
