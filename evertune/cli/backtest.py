"""`evertune backtest`: what would each retraining policy have been worth on the rows that came so far?"""

from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import follow_log, format_metric, make_console, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.backtesting.record import BacktestResult


@click.command()
@common.recipe
@common.overrides
@click.option("--every", default="week", show_default=True, help="day, week, month, or a number of days: '10 days'.")
@click.option(
    "--policies",
    default="never,always,gated,drift",
    show_default=True,
    help="Names separated by commas. gated:4 retrains at every fourth window.",
)
@click.option("--start", type=click.IntRange(min=1), help="Windows before the first model. Default: a third of them.")
@common.as_json
def backtest(
    recipe: str, overrides: tuple[str, ...], every: str, policies: str, start: int | None, as_json: bool
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
        loaded, every, policies, start, show_line=lambda line: screen.print(line, markup=False)
    )
    if as_json:
        common.show_json(to_plain(result))
    _show_result(screen, result)


def _show_result(screen: "Console", result: "BacktestResult") -> None:
    from rich.markup import escape

    rows = [
        [
            summary.policy,
            format_metric(summary.metric),
            format_metric(summary.below),
            summary.retrainings,
            summary.promotions,
            summary.wrong,
            f"{summary.seconds:,.0f}",
        ]
        for summary in result.summaries
    ]
    headings = ["policy", f"mean {result.metric}", "below best", "retrainings", "promotions", "wrong", "seconds"]
    screen.print()
    print_table(screen, headings, rows, right=1)
    screen.print(f"[bold green]recommended[/bold green]  {escape(result.sentence)}", markup=True)
    for reason, count in result.left_out.items():
        screen.print(f"left out     {count:,} rows {reason}", markup=False)
    screen.print(f"report       {result.report}", markup=False)
