"""What several commands share: options, the version that a command means, and the object that `--json` prints."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from evertune.runtime.context import RunContext

Command = TypeVar("Command", bound=Callable[..., object])

recipe = click.argument("recipe", type=click.Path())
overrides = click.option(
    "--set", "overrides", multiple=True, metavar="a.b=c", help="Override a recipe key; repeatable."
)
as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object on standard output."
)
version = click.option("--version", type=int, help="Registered version. Default: the champion.")


def reason(command: Command) -> Command:
    """Add `--reason`, which is prompted for on a terminal."""
    return click.option(
        "--reason", callback=_ask_reason, help="Stored in the ledger with your name; prompted for if missing."
    )(command)


def _ask_reason(ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if ctx.resilient_parsing:  # the shell completes a line
        return value
    if value is None and not sys.stdin.isatty():
        raise click.UsageError("--reason is required when the input is not a terminal; it is stored in the ledger")
    answer = (click.prompt("Reason") if value is None else value).strip()
    if not answer:
        raise click.BadParameter("the reason is blank; say in a few words why")
    return str(answer)


def choose_version(context: "RunContext", version: int | None) -> int:
    """Return the version that `--version` names, or else the champion.

    Raises:
        RegistryError: there is no champion yet, or MLflow does not answer.
    """
    from evertune.errors import RegistryError
    from evertune.registry.versions import versions

    chosen_version = (
        version if version is not None else versions.find_champion(context.home, context.recipe.registered_name)
    )
    if chosen_version is None:
        raise RegistryError(f"{context.recipe.registered_name} has no champion yet; name a version with --version")
    return chosen_version


def show_json(value: object) -> None:
    """Print one JSON object on standard output."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, default=str))
