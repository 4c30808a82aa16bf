"""`evertune monitor`: are the rows that come still those that the champion was tested on?"""

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, follow, table


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
    from evertune.config import load
    from evertune.records import Monitoring, plain
    from evertune.registry.tracking import store
    from tasks.notify import failures

    screen = console()
    follow(screen)
    with failures(recipe, overrides, "monitor"):
        loaded = load(recipe, overrides)
        store.reach()
        with quiet_prefect(ctx.obj["debug"], ("torch", "transformers")):
            from flows.monitor import monitor as flow

            found: Monitoring = flow(loaded, source, encoding)
    if as_json:
        show_json(plain(found))
    colour, word = ("red", "drift") if found.drifted else ("green", "no drift")
    colour, word = ("yellow", "too few rows") if found.p is None else (colour, word)
    screen.print(f"\n[bold {colour}]{word}[/bold {colour}]  {escape(found.reason)}", markup=True)
    rows = [[one["test"], f"{one['adjusted']:.3f}", one["words"]] for one in found.findings]
    if rows:
        table(screen, ["test", "p", "found"], rows)
    for one in found.triggers:
        words = f"{one.name}, {'retrain' if one.starts else 'held'}: {one.held or one.reason}"
        screen.print(f"trigger    {words}", markup=False)
    if any(one.starts for one in found.triggers):
        screen.print(f"next       a server's automation starts it; without one: evertune run {recipe}", markup=False)
    out = f"; {found.left_out:,} left out: known to the champion, or too near what it learned" if found.left_out else ""
    screen.print(
        f"rows       {found.rows['current']:,}, beside {found.rows['reference']:,} test rows{out}", markup=False
    )
    screen.print(f"look at    {found.report}", markup=False)
