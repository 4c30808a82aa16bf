"""Options that several commands share."""

import sys
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
    return click.option(
        "--reason", callback=_ask_reason, help="Kept in the ledger with your name; asked for if not given."
    )(command)


def _ask_reason(ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if ctx.resilient_parsing:  # the shell completes a line
        return value
    if value is None and not sys.stdin.isatty():
        raise click.UsageError("give --reason: it is kept in the ledger, and there is nobody here to ask")
    answer = (click.prompt("Why") if value is None else value).strip()
    if not answer:
        raise click.BadParameter("a reason is more than blanks; say in a few words why")
    return str(answer)
