"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

recipe = click.argument("recipe", type=click.Path())
overrides = click.option(
    "--set", "overrides", multiple=True, metavar="a.b=c", help="Change a key of the recipe; may stand often."
)
as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print the outcome as one JSON object on standard output."
)


def reason(command: Callable[..., Any]) -> Callable[..., Any]:
    """The reason of a move, asked for where it is not given."""
    return click.option("--reason", prompt="Why", help="Kept in the ledger with your name.")(command)
