"""`evertune new`: look at data and write a recipe for it."""

import os
from pathlib import Path

import click

from evertune.cli.terminal import console, table
from evertune.errors import ConfigError


@click.command()
@click.argument("name")
@click.option(
    "--data", required=True, help="File, folder or glob: CSV, TSV, JSON Lines, Parquet, CoNLL columns or plain text."
)
@click.option("--objective", help="Default: token-classification for lists of words, else text-classification.")
@click.option("--text", help="Column of the input, of several the first.")
@click.option("--label", help="Column of the label, the tags, or what else is learned.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write the recipe. Default: NAME.yaml.")
def new(name: str, data: str, objective: str | None, text: str | None, label: str | None, output: Path | None) -> None:
    """Look at data, pick its columns, infer a contract, and write a recipe with comments."""
    from evertune.profiling.profile import inspect, recipe_text, tried

    path = output or Path(f"{name}.yaml")
    if path.exists():
        raise ConfigError(f"{path} is there already; remove it, or give --output")
    folder = path.absolute().parent
    where = os.path.relpath(data, folder)
    guess = tried(name, where, inspect(data, objective=objective, text=text, label=label), folder)
    recipe = recipe_text(name, where, guess, str(path))
    screen = console()
    screen.print(f"{guess.rows:,} rows, [bold]{guess.objective}[/bold]")
    table(
        screen, ["role", "column", "why"], [[role, column, guess.why[role]] for role, column in guess.columns.items()]
    )
    shown = list(guess.labels.items())
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    if shown:
        screen.print("labels: " + ", ".join(f"{label} {count:,}" for label, count in shown[:12]) + more, markup=False)
    for reason, count in guess.refused.items():
        screen.print(f"will be refused: {count:,} rows, {reason}", markup=False)
    for problem in guess.problems:
        screen.print(f"a run would stop: {problem}", markup=False)
    for note in guess.notes:
        screen.print(f"note: {note}", markup=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe, encoding="utf-8")
    screen.print(f"\nwrote {path}; next:\n  evertune check {path}\n  evertune run {path}", markup=False)
