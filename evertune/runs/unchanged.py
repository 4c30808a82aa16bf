"""A run that has nothing to do: recognised from fingerprints, before Prefect or torch are imported."""

from typing import TYPE_CHECKING

from evertune.data.sources import read as sources
from evertune.registry.decisions import ledger
from evertune.registry.tracking import unfinished
from evertune.registry.versions import versions
from evertune.runs import up_to_date
from evertune.runtime.context import open_context

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
    context = open_context(recipe)
    if ledger.find_open_intent(context.home) is not None:  # a process died while it moved the champion
        versions.repair_ledger(context.home, recipe.registered_name)
    unchanged_outcome = up_to_date.check_before_start(context, sources.fingerprints)
    if unchanged_outcome is None:
        return None
    # Open runs are left by a forced run, a monitor or a backtest that was killed, or that is still at work.
    if unfinished.has_open_runs(context.home):
        unfinished.close_abandoned(context.home, recipe.name)
    return ledger.record_unchanged(context.home, unchanged_outcome)
