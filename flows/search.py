"""The search flow: which values of a recipe's searched fields do best on the validation rows?"""

from collections.abc import Mapping
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from evertune.config import Plan, load_search
from evertune.records import Snapshot
from evertune.runtime.home import home_of
from evertune.search.search import Limits, search_and_report
from flows.naming import recipe_name
from tasks.ingest import ingest
from tasks.notify import notify_failures
from tasks.step import exclusive_run, prepare_run
from tasks.validate import validate


@flow(name="search", flow_run_name=recipe_name)
def search(
    recipe: str,
    overrides: list[str] | None = None,
    trials: int = 20,
    hours: float | None = None,
    jobs: int = 1,
    output: str | None = None,
) -> Mapping[str, object]:
    """Search, and write the best recipe; the next run continues a search that was killed.

    Args:
        recipe: the path of its YAML file.
        overrides: `a.b=value` each.
        trials: number in all.
        hours: after which no trial starts. Default: no limit.
        jobs: trials at a time.
        output: path of the best recipe. Default: NAME.best.yaml beside the recipe.
    """
    plan = load_search(recipe, overrides or [])
    prepare_run()
    path = Path(output) if output else Path(recipe).with_suffix(".best.yaml")
    with notify_failures(plan.recipe, [], "search"):
        with exclusive_run(plan.recipe):
            snapshot = validate(ingest(plan.recipe), plan.recipe)
        return run_search(plan, snapshot, Limits(trials, hours, jobs), path)


@task(task_run_name="search", cache_policy=NO_CACHE)
def run_search(plan: Plan, snapshot: Snapshot, limits: Limits, output: Path) -> Mapping[str, object]:
    """Run the trials, write recipe and report, and record both."""
    return search_and_report(plan, home_of(plan.recipe), snapshot, limits, output, "the deployment's parameters")
