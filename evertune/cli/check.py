"""`evertune check`: every config error at once, then a sample of rows through the contract; trains nothing."""

import contextlib
from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, table
from evertune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from evertune.config import Recipe

SAMPLE = 10_000  # rows that are looked at
SHOWN = 20  # labels


@click.command()
@options.recipe
@options.overrides
@click.option("--notify", "send", is_flag=True, help="Send a test message to every target of `notify`.")
@options.as_json
def check(recipe: str, overrides: tuple[str, ...], send: bool, as_json: bool) -> None:
    """Find every error of a recipe, put a sample of its rows through the contract, and show how they are read."""
    from evertune.config import load
    from evertune.models import base as base_models
    from evertune.profiling import preview
    from evertune.records import plain

    loaded = load(recipe, overrides)
    base_models.check_fit(loaded)
    if loaded.training.names_parts:
        from evertune.training import initial_model as start

        start.fits(loaded)
    found = preview.look(loaded, SAMPLE)
    told = _told(loaded, send) if loaded.notify.targets else []
    if as_json:
        show_json({**plain(found), "notify": [one._asdict() for one in told]})
    else:
        _show(loaded, recipe, found)
        _show_told(loaded, told, send)
    if unreachable := [f"notify.targets: {one.target}, {one.kind}: {one.problem}" for one in told if one.problem]:
        raise ConfigError(unreachable, recipe)
    if found.problems:
        raise DataError("\n".join(["`evertune run` would stop:", *(f"  {problem}" for problem in found.problems)]))


def _told(recipe: "Recipe", send: bool) -> list[Any]:
    """Where people would be told; with `send`, each was sent a test message."""
    from evertune.cli.server.prefect_settings import quiet_prefect
    from evertune.notify import notices
    from tasks import notify

    if not send:
        return notify.kinds(recipe)
    blocks = any(target.startswith("block:") for target in recipe.notify.targets)
    with quiet_prefect(False, ()) if blocks else contextlib.nullcontext():
        return notify.sent(recipe, notices.trial(recipe))


def _show_told(recipe: "Recipe", told: list[Any], sent: bool) -> None:
    if not told:
        return
    screen = console(stderr=False)
    screen.print(f"people are told of: {', '.join(recipe.notify.events)}", markup=False)
    state = "a test message was sent" if sent else "not tried; `--notify` sends a test message"
    table(screen, ["target", "kind", ""], [[one.target, one.kind, one.problem or state] for one in told])


def _show(recipe: "Recipe", path: str, found: Any) -> None:
    screen = console(stderr=False)
    state = "its keys are valid, its rows are not" if found.problems else "the recipe is valid"
    screen.print(f"[bold]{path}[/bold]: {state} ({recipe.objective.type}, {recipe.base_model})")
    of = f" of {found.found:,}" if found.rows < found.found else ""
    lines = [["rows looked at", f"{found.rows:,}{of}"], ["accepted", f"{found.accepted:,}"]]
    lines += [[f"refused: {reason}", f"{count:,}"] for reason, count in found.reasons.items()]
    table(screen, ["contract", "rows"], lines, right=1)
    shown = [[label, f"{count:,}"] for label, count in list(found.labels.items())[:SHOWN]]
    if shown:
        table(screen, ["label", "rows"], shown, right=1)
    if len(found.labels) > SHOWN:
        screen.print(f"and {len(found.labels) - SHOWN:,} labels more")
    dealt = ", ".join(f"{count:,} {name}" for name, count in found.splits.items() if count)
    leaked = f"; at least {found.leaked:,} test rows stand in or near train rows" if found.leaked else ""
    screen.print(f"splits of a first run{', about' if of else ''}: {dealt}{leaked}")
    table(
        screen,
        ["input", "target", "tokens"],
        [[one["input"], one["target"], one["tokens"]] for one in found.examples],
    )
    if found.truncated:
        about, longest = "about " if of else "", recipe.objective.max_length
        screen.print(f"{about}{found.truncated:,} rows are longer than objective.max_length {longest}: cut")
    for note in found.notes:
        screen.print(f"note: {note}", markup=False)
