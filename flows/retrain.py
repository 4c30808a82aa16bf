"""The retrain flow: fresh rows in, a challenger out, the champion replaced only on evidence."""

from prefect import flow

from evertune.config import Recipe, load_recipe
from evertune.records import Outcome, TooLittle
from flows.naming import recipe_name
from tasks.conclude import conclude, find_unchanged, record_waiting
from tasks.evaluate import evaluate
from tasks.finetune import finetune
from tasks.ingest import ingest
from tasks.notify import notify_on_failure
from tasks.promote import promote
from tasks.step import exclusive_run, prepare_run
from tasks.tokenize import tokenize
from tasks.validate import validate


@flow(name="retrain", flow_run_name=recipe_name, validate_parameters=True)
@notify_on_failure  # people, when it fails
def retrain(recipe: Recipe | str, overrides: list[str] | None = None, force: bool = False) -> Outcome:
    """Take in fresh rows, fine-tune a challenger, and promote it if the evidence is there.

    Args:
        recipe: a recipe, or the path of its YAML file.
        overrides: `a.b=value` each.
        force: retrain although nothing is new.
    """
    recipe = load_recipe(recipe, overrides or []) if isinstance(recipe, str) else recipe
    prepare_run()
    with exclusive_run(recipe):  # one run of a recipe at a time
        # fmt: off
        batch     = ingest(recipe)                         # fresh rows only
        snapshot  = validate(batch, recipe)                # accepted -> corpus, refused -> quarantine
        if not force and (same := find_unchanged(snapshot, recipe)):
            return same
        tokens    = tokenize(snapshot, recipe)
        candidate = finetune(tokens, recipe, force)        # resumes where a crash left it
        if isinstance(candidate, TooLittle):               # the new rows teach nothing yet
            return record_waiting(candidate, snapshot, recipe)
        report    = evaluate(candidate, recipe)            # beside the champion, on the same rows
        decision  = promote(candidate, report, recipe)     # challenger, then champion if the gate says so
        return conclude(candidate, report, decision, recipe)
        # fmt: on
