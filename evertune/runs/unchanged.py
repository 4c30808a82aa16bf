"""A run that has nothing to do: recognised from fingerprints, before Prefect or torch are imported."""

from typing import TYPE_CHECKING

from evertune.data.sources import read as sources
from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.versions import versions
from evertune.runs import up_to_date
from evertune.runtime.context import RunContext
from evertune.runtime.home import home_of

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Outcome


def record_if_unchanged(recipe: "Recipe") -> "Outcome | None":
    """Return the outcome `unchanged` and record it in the ledger, or None where there may be work to do.

    A move of the champion that a crash cut off is repaired first.

    Raises:
        ConfigError: a source or the base model does not fit the recipe.
        DataError: a source cannot be read.
        RegistryError: MLflow does not answer.
    """
    home = home_of(recipe)
    if ledger.find_open_intent(home) is not None:  # a process died while it moved the champion
        versions.repair_ledger(home, recipe.registered_name)
    unchanged_outcome = up_to_date.check_before_start(RunContext(recipe, home), sources.fingerprints)
    if unchanged_outcome is None:
        return None
    if unfinished.has_open_runs(home):  # left by a forced run, a monitor or a backtest that was killed or is at work
        unfinished.close_abandoned(home, recipe.name)
    return ledger.record_unchanged(home, unchanged_outcome)
