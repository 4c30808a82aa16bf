"""`evertune monitor`: are the rows that come still those that the champion was tested on?"""

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import follow_log, make_console, print_table


@click.command()
@options.recipe
@options.overrides
@click.option("--input", "source", help="A file of rows. Default: those that came since the champion was trained.")
@click.option("--encoding", help="Text encoding of the input. Default: that of the recipe's files.")
@options.as_json
@click.pass_context
def monitor(
    ctx: click.Context, recipe: str, overrides: tuple[str, ...], source: str | None, encoding: str | None, as_json: bool
) -> None:
    """Look for drift of inputs, predictions and, where labels are known, performance; exit status 0 either way."""
    from rich.markup import escape

    from evertune.cli.server.prefect_settings import quiet_prefect
    from evertune.config import load_recipe
    from evertune.records import Monitoring, to_plain
    from evertune.registry.tracking import store
    from tasks.notify import notify_failures

    screen = make_console()
    follow_log(screen)
    with notify_failures(recipe, overrides, "monitor"):
        loaded = load_recipe(recipe, overrides)
        store.check_server()
        with quiet_prefect(ctx.obj["debug"], ("torch", "transformers")):
            from flows.monitor import monitor as monitor_flow

            monitoring: Monitoring = monitor_flow(loaded, source, encoding)
    if as_json:
        show_json(to_plain(monitoring))
    colour, word = ("red", "drift") if monitoring.drifted else ("green", "no drift")
    colour, word = ("yellow", "too few rows") if monitoring.p is None else (colour, word)
    screen.print(f"\n[bold {colour}]{word}[/bold {colour}]  {escape(monitoring.reason)}", markup=True)
    rows = [[finding["test"], f"{finding['adjusted']:.3f}", finding["words"]] for finding in monitoring.findings]
    if rows:
        print_table(screen, ["test", "p", "found"], rows)
    for trigger in monitoring.triggers:
        trigger_text = f"{trigger.name}, {'retrain' if trigger.starts else 'held'}: {trigger.held or trigger.reason}"
        screen.print(f"trigger    {trigger_text}", markup=False)
    if any(trigger.starts for trigger in monitoring.triggers):
        screen.print(f"next       a server's automation starts it; without one: evertune run {recipe}", markup=False)
    left_out_note = (
        f"; {monitoring.left_out:,} left out: known to the champion, or too near what it learned"
        if monitoring.left_out
        else ""
    )
    screen.print(
        f"rows       {monitoring.rows['current']:,}, beside {monitoring.rows['reference']:,} test rows{left_out_note}",
        markup=False,
    )
    screen.print(f"look at    {monitoring.report}", markup=False)
