"""`evertune score`: the champion over a file."""

from typing import Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, follow


@click.command()
@options.recipe
@click.option(
    "--input", "source", required=True, help="CSV, TSV, JSON Lines or Parquet with the recipe's input column."
)
@click.option("--output", required=True, help="Ends with .csv, .jsonl or .parquet.")
@click.option("--encoding", help="Text encoding of the input. Default: that of the recipe's files.")
@options.as_json
@click.pass_context
def score(ctx: click.Context, recipe: str, source: str, output: str, encoding: str | None, as_json: bool) -> None:
    """Predict every row of a file with the champion; a bad row gets a null and a reason."""
    from evertune.cli.server.prefect_settings import quiet_prefect
    from evertune.config import load
    from evertune.records import plain
    from evertune.registry.tracking import store

    loaded = load(recipe)
    screen = console()
    follow(screen)
    store.reach()
    with quiet_prefect(ctx.obj["debug"], ("torch", "transformers")):
        from flows.score import score as flow

        done: Any = flow(loaded, source, output, encoding)
    if as_json:
        show_json(plain(done))
    bad = f", {done.bad:,} of them bad (see the column problem)" if done.bad else ""
    screen.print(f"{done.rows:,} rows scored by version {done.version}{bad}: {done.output}")
