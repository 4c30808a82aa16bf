"""`evertune score`: the champion over a file."""

import click

from evertune.cli import common
from evertune.cli.terminal import follow_log, make_console


@click.command()
@common.recipe
@click.option(
    "--input", "source", required=True, help="CSV, TSV, JSON Lines or Parquet with the recipe's input columns."
)
@click.option("--output", required=True, help="A .csv, .jsonl or .parquet file.")
@click.option("--encoding", help="Text encoding of the input. Default: that of the recipe's files.")
@common.as_json
@click.pass_context
def score(ctx: click.Context, recipe: str, source: str, output: str, encoding: str | None, as_json: bool) -> None:
    """Predict every row of a file with the champion. A row that cannot be scored gets a null and a reason."""
    from evertune.cli.flow_runs import run_score
    from evertune.config import load_recipe
    from evertune.records import to_plain

    loaded = load_recipe(recipe)
    screen = make_console()
    follow_log(screen)
    scores = run_score(loaded, source, output, encoding, debug=bool(ctx.obj["debug"]))
    if as_json:
        common.show_json(to_plain(scores))
    problem_note = f"; {scores.bad:,} could not be scored (see the column problem)" if scores.bad else ""
    scored = scores.rows - scores.bad
    screen.print(
        f"{scored:,} of {scores.rows:,} rows scored by version {scores.version}{problem_note}: {scores.output}"
    )
