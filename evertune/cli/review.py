"""`evertune review`: rows that were accepted although their labels are doubtful, for a person to look at."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import format_rows, make_console, print_table
from evertune.runtime.context import open_context

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.runs.doubtful_labels import DoubtfulRow

SHOWN = 20  # rows
CUT = 60  # characters of a text in the table


@click.command()
@common.recipe
@click.option(
    "--export", "target", type=click.Path(path_type=Path), help="Write the rows with their whole texts to a CSV file."
)
@common.as_json
def review(recipe: str, target: Path | None, as_json: bool) -> None:
    """List rows whose labels are doubtful: the champion and a second model give them another one."""
    from evertune.config import load_recipe
    from evertune.runs import doubtful_labels

    context = open_context(load_recipe(recipe))
    rows = doubtful_labels.list_doubtful_rows(context)
    if as_json:
        common.show_json([row._asdict() for row in rows])
        return
    screen = make_console(stderr=False)
    if target:
        doubtful_labels.export_doubtful_rows(rows, target)
        screen.print(f"{format_rows(len(rows))} written to {target}", markup=False)
    else:
        _show_rows(screen, rows)


def _show_rows(screen: "Console", rows: list["DoubtfulRow"]) -> None:
    table_rows = [
        [row.batch, f"{row.source}:{row.source_row}", row.label, row.suggestion, _shorten(row.text)]
        for row in rows[:SHOWN]
    ]
    print_table(screen, ["batch", "where", "label", "suggested", "text"], table_rows)
    hidden = len(rows) - SHOWN
    more = f" ({hidden:,} not shown; --json or --export FILE lists all)" if hidden > 0 else ""
    screen.print(f"{format_rows(len(rows))} with a doubtful label{more}")


def _shorten(text: str) -> str:
    return text if len(text) <= CUT else f"{text[:CUT]}..."
