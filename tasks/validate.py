"""Step 2: fresh rows through the contract; accepted ones to the corpus, refused ones to quarantine."""

from evertune import admission
from evertune.config import Recipe
from evertune.home import home_of, write_json
from evertune.records import Batch, Snapshot
from tasks.artifacts import show_rows
from tasks.step import said, step


@step()
def validate(batch: Batch, recipe: Recipe) -> Snapshot:
    """Judge, split and commit the batch; each table takes it once, however often this runs."""
    home = home_of(recipe)
    docs = home.model / "data_docs" / f"{batch.number:06d}"
    snapshot, verdicts = admission.admit(batch, recipe, home, docs)
    if verdicts is not None:
        write_json(docs / "result.json", verdicts.suite_result)
    said.info("validate: %s rows accepted, %s refused", f"{snapshot.accepted:,}", f"{snapshot.refused:,}")
    show_rows(recipe.name, snapshot)
    return snapshot
