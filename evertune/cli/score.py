"""`evertune score`: the champion over a file."""

from typing import Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import follow_log, make_console


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
    from evertune.config import load_recipe
    from evertune.records import to_plain
    from evertune.registry.tracking import store

    loaded = load_recipe(recipe)
    screen = make_console()
    follow_log(screen)
    store.check_server()
    with quiet_prefect(ctx.obj["debug"], ("torch", "transformers")):
        from flows.score import score as score_flow

        scores: Any = score_flow(loaded, source, output, encoding)
    if as_json:
        show_json(to_plain(scores))
    bad_note = f", {scores.bad:,} of them bad (see the column problem)" if scores.bad else ""
    screen.print(f"{scores.rows:,} rows scored by version {scores.version}{bad_note}: {scores.output}")
