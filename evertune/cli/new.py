"""`evertune new`: inspect data and write a recipe for it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evertune.cli.terminal import format_rows, make_console, print_table
from evertune.errors import ConfigError

if TYPE_CHECKING:
    from evertune.profiling.profile import Guess

SHOWN = 12  # labels


@click.command()
@click.argument("name")
@click.option(
    "--data", required=True, help="File, folder or glob: CSV, TSV, JSON Lines, Parquet, CoNLL columns or plain text."
)
@click.option("--objective", help="Default: token-classification for lists of words, else text-classification.")
@click.option("--text", help="Input column; the first one where the objective has several.")
@click.option("--label", help="Column of the label, the tags, or whatever else the model learns.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write the recipe. Default: NAME.yaml.")
def new(name: str, data: str, objective: str | None, text: str | None, label: str | None, output: Path | None) -> None:
    """Inspect data, pick its columns, infer a contract, and write a commented recipe."""
    from evertune.profiling.profile import inspect_data, render_recipe, try_contract

    path = output or Path(f"{name}.yaml")
    if path.exists():
        raise ConfigError(f"{path} already exists; remove it, or write elsewhere with --output")
    folder = path.absolute().parent
    data_path = os.path.relpath(data, folder)
    guess = try_contract(name, data_path, inspect_data(data, objective=objective, text=text, label=label), folder)
    recipe = render_recipe(name, data_path, guess, str(path))
    _show_guess(guess)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe, encoding="utf-8")
    make_console().print(f"\nwrote {path}; next:\n  evertune check {path}\n  evertune run {path}", markup=False)


def _show_guess(guess: "Guess") -> None:
    screen = make_console()
    screen.print(f"{format_rows(guess.rows)}, [bold]{guess.objective}[/bold]")
    print_table(
        screen, ["role", "column", "why"], [[role, column, guess.why[role]] for role, column in guess.columns.items()]
    )
    if guess.labels:
        shown = ", ".join(f"{label} {count:,}" for label, count in list(guess.labels.items())[:SHOWN])
        more = f" and {len(guess.labels) - SHOWN} more" if len(guess.labels) > SHOWN else ""
        screen.print(f"labels: {shown}{more}", markup=False)
    for reason, count in guess.refused.items():
        screen.print(f"will be refused: {format_rows(count)} ({reason})", markup=False)
    for problem in guess.problems:
        screen.print(f"a run would stop: {problem}", markup=False)
    for note in guess.notes:
        screen.print(f"note: {note}", markup=False)
