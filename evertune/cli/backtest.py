"""`evertune backtest`: what would each retraining policy have been worth on the rows that came so far?"""

from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import follow_log, format_metric, make_console, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from evertune.backtesting.record import BacktestResult
    from evertune.backtesting.verdict import Summary


@click.command()
@common.recipe
@common.overrides
@click.option("--every", default="week", show_default=True, help="day, week, month, or a number of days: '10 days'.")
@click.option(
    "--policies",
    default="never,always,always:2,gated,drift",
    show_default=True,
    help="Names separated by commas. gated:4 retrains at every fourth window.",
)
@click.option("--gates", default="", help="Gates to try beside the recipe's own: expected,caution=12,proof.")
@click.option("--start", type=click.IntRange(min=1), help="Windows before the first model. Default: a third of them.")
@common.as_json
def backtest(
    recipe: str,
    overrides: tuple[str, ...],
    every: str,
    policies: str,
    gates: str,
    start: int | None,
    as_json: bool,
) -> None:
    """Replay the corpus by its timestamps under several policies, and recommend one.

    Rows that no run has seen yet are ingested first. A backtest that was killed goes on where it stopped.
    """
    from evertune.backtesting.record import run_recorded_backtest
    from evertune.config import load_recipe
    from evertune.records import to_plain

    loaded = load_recipe(recipe, overrides)
    screen = make_console()
    follow_log(screen)
    result = run_recorded_backtest(
        loaded, every, policies, start, show_line=lambda line: screen.print(line, markup=False), gates=gates
    )
    if as_json:
        common.show_json(to_plain(result))
    _show_result(screen, result)


def _show_result(screen: "Console", result: "BacktestResult") -> None:
    from rich.markup import escape

    screen.print()
    show_summaries(screen, result.summaries, result.metric)
    screen.print(f"[bold green]recommended[/bold green]  {escape(result.sentence)}", markup=True)
    for reason, count in result.left_out.items():
        screen.print(f"left out     {count:,} rows {reason}", markup=False)
    screen.print(f"report       {result.report}", markup=False)


def show_summaries(screen: "Console", summaries: "Sequence[Summary]", metric: str) -> None:
    """Print a line for each policy."""
    rows = [
        [
            summary.policy,
            format_metric(summary.metric),
            format_metric(summary.below),
            summary.retrainings,
            summary.promotions,
            f"{summary.expected_wrong:.1f}",
            format_metric(summary.lost),
            f"{summary.seconds:,.0f}",
        ]
        for summary in summaries
    ]
    headings = ["policy", metric, "below", "trained", "promoted", "wrong", "lost", "seconds"]
    print_table(screen, headings, rows, right=1)
