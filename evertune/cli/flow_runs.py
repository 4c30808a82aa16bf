"""Flows run in this process under Prefect's settings: what the commands and `evertune.api` share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evertune.cli.server.prefect_settings import quiet_prefect

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Monitoring, Outcome, Scores

NEEDED = ("torch", "transformers")  # imported while Prefect's temporary server starts


def run_retrain(
    recipe: "Recipe | str", overrides: Sequence[str] = (), *, force: bool = False, debug: bool = False
) -> "Outcome":
    """Run the retrain flow, or return `unchanged` at once where nothing is new; people are notified of a failure.

    Args:
        recipe: a recipe, or the path of its YAML file.
        overrides: `a.b=value` each, for a path.
        force: retrain although nothing is new.
        debug: show Prefect's log.
    """
    from evertune.config import load_recipe
    from evertune.runs.unchanged import record_if_unchanged
    from tasks.notify import notify_failures

    with notify_failures(recipe, overrides, "retrain"):
        loaded = load_recipe(recipe, overrides) if isinstance(recipe, str) else recipe
        outcome = None if force else record_if_unchanged(loaded)
        return outcome or _run_retrain_flow(loaded, force, debug)


def _run_retrain_flow(recipe: "Recipe", force: bool, debug: bool) -> "Outcome":
    from evertune.data import admission
    from evertune.registry.tracking import store

    store.check_server()  # before minutes of work
    admission.start_validator()  # its process imports while this one does
    with quiet_prefect(debug, NEEDED):
        from flows.retrain import retrain

        outcome: Outcome = retrain(recipe, force=force)
        return outcome


def run_score(
    recipe: "Recipe", source: str, output: str, encoding: str | None = None, *, debug: bool = False
) -> "Scores":
    """Run the score flow: predict every row of a file with the champion."""
    from evertune.registry.tracking import store

    store.check_server()
    with quiet_prefect(debug, NEEDED):
        from flows.score import score

        scores: Scores = score(recipe, source, output, encoding)
        return scores


def run_monitor(
    recipe: str, overrides: Sequence[str], source: str | None, encoding: str | None, *, debug: bool = False
) -> "Monitoring":
    """Run the monitor flow: compare new rows with those that the champion was tested on."""
    from evertune.config import load_recipe
    from evertune.registry.tracking import store
    from tasks.notify import notify_failures

    with notify_failures(recipe, overrides, "monitor"):
        loaded = load_recipe(recipe, overrides)
        store.check_server()
        with quiet_prefect(debug, NEEDED):
            from flows.monitor import monitor

            monitoring: Monitoring = monitor(loaded, source, encoding)
            return monitoring
