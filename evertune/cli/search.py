"""`evertune search`: which values of a recipe's open fields do best on the validation rows?"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evertune.cli import common
from evertune.cli.terminal import follow_log, format_metric, make_console, print_table
from evertune.runtime.context import RunContext

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 10  # trials in the table at the end


@click.command()
@common.recipe
@common.overrides
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Total number of trials.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="No trial starts after this many hours.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Trials at the same time.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the best recipe. Default: NAME.best.yaml next to the recipe.",
)
@common.as_json
def search(
    recipe: str,
    overrides: tuple[str, ...],
    trials: int,
    hours: float | None,
    jobs: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Find the best values of the fields that the recipe leaves open, and write a recipe with these values.

    An open field is written as {search: [1e-5, 1e-3], log: true} or {search: [a, b, c]}. Rows that no run has seen yet
    are ingested first. A search that was killed goes on where it stopped; two at the same time share the work.
    """
    from evertune.config import load_search
    from evertune.registry.tracking import store
    from evertune.runs.ingest import ingest_sources
    from evertune.runtime.home import home_of
    from evertune.search.search import Limits, search_and_report

    plan = load_search(recipe, overrides)
    screen = make_console()
    home = home_of(plan.recipe)
    follow_log(screen)
    store.check_server()
    path = output or Path(recipe).with_suffix(".best.yaml")
    command = _quote_command(recipe, overrides)
    snapshot = ingest_sources(RunContext(plan.recipe, home))
    result = search_and_report(plan, home, snapshot, Limits(trials, hours, jobs), path, command)
    if as_json:
        common.show_json(result)
    _show_result(screen, result)


def _quote_command(recipe: str, overrides: tuple[str, ...]) -> str:
    return shlex.join(["evertune", "search", recipe, *(part for override in overrides for part in ("--set", override))])


def _show_result(screen: "Console", result: dict[str, Any]) -> None:
    from rich.markup import escape

    from evertune.config.search import format_value, shorten_paths
    from evertune.report.pages.search import rank_trials

    rows = [
        [
            trial["number"],
            trial["state"],
            format_metric(trial["value"]),
            *(format_value(trial["values"].get(name)) for name in result["fields"]),
            f"{trial['seconds']:,.0f}",
        ]
        for trial in rank_trials(result)[:SHOWN]
    ]
    screen.print()
    print_table(
        screen,
        ["trial", "state", result["metric"], *shorten_paths(result["fields"]).values(), "seconds"],
        rows,
        right=2,
    )
    if len(result["trials"]) > SHOWN:
        screen.print(f"and {len(result['trials']) - SHOWN} more trials\n", markup=False)
    screen.print(f"[bold green]best[/bold green]     {escape(result['sentence'])}", markup=True)
    screen.print(f"next     evertune run {shlex.quote(result['recipe'])}", markup=False)
    screen.print(f"report   {result['report']}", markup=False)
