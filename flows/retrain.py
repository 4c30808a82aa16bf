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
@notify_on_failure
def retrain(recipe: Recipe | str, overrides: list[str] | None = None, force: bool = False) -> Outcome:
    """Ingest fresh rows, fine-tune a challenger, and promote it if the evidence is there.

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
        unchanged = None if force else find_unchanged(snapshot, recipe)
        if unchanged is not None:
            return unchanged
        tokens    = tokenize(snapshot, recipe)
        candidate = finetune(tokens, recipe, force)        # resumes where a crash left it
        if isinstance(candidate, TooLittle):               # too few new rows to train on
            return record_waiting(candidate, snapshot, recipe)
        report    = evaluate(candidate, recipe)            # challenger and champion, on the same rows
        decision  = promote(candidate, report, recipe)     # champion if the gate decides so
        return conclude(candidate, report, decision, recipe)
        # fmt: on
