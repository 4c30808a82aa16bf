"""`evertune monitor`: do new rows still look like those that the champion was tested on?"""

from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import follow_log, make_console, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.records import Monitoring


@click.command()
@common.recipe
@common.overrides
@click.option("--input", "source", help="A file of rows. Default: rows that came since the champion was trained.")
@click.option("--encoding", help="Text encoding of the input. Default: that of the recipe's files.")
@common.as_json
@click.pass_context
def monitor(
    ctx: click.Context, recipe: str, overrides: tuple[str, ...], source: str | None, encoding: str | None, as_json: bool
) -> None:
    """Test for drift of inputs, predictions and, where labels are known, performance.

    Drift is not an error: the exit status is 0 either way.
    """
    from evertune.cli.flow_runs import run_monitor
    from evertune.records import to_plain

    screen = make_console()
    follow_log(screen)
    monitoring = run_monitor(recipe, overrides, source, encoding, debug=bool(ctx.obj["debug"]))
    if as_json:
        common.show_json(to_plain(monitoring))
    _show_result(screen, monitoring, recipe)


def _show_result(screen: "Console", monitoring: "Monitoring", recipe: str) -> None:
    from rich.markup import escape

    if monitoring.p is None:
        colour, verdict = "yellow", "too few rows"
    elif monitoring.drifted:
        colour, verdict = "red", "drift"
    else:
        colour, verdict = "green", "no drift"
    screen.print(f"\n[bold {colour}]{verdict}[/bold {colour}]  {escape(monitoring.reason)}", markup=True)
    rows = [[finding["test"], f"{finding['adjusted']:.3f}", finding["words"]] for finding in monitoring.findings]
    if rows:
        print_table(screen, ["test", "p", "found"], rows)
    for trigger in monitoring.triggers:
        action = "retrain" if trigger.starts else "held"
        screen.print(f"trigger    {trigger.name}, {action}: {trigger.held or trigger.reason}", markup=False)
    if any(trigger.starts for trigger in monitoring.triggers):
        screen.print(
            f"next       a Prefect automation starts the retraining; without one: evertune run {recipe}", markup=False
        )
    left_out = ""
    if monitoring.left_out:
        left_out = f"; {monitoring.left_out:,} skipped: seen in training, or near-duplicates of what was"
    current, reference = monitoring.rows["current"], monitoring.rows["reference"]
    screen.print(f"rows       {current:,}, compared with {reference:,} test rows{left_out}", markup=False)
    screen.print(f"report     {monitoring.report}", markup=False)
