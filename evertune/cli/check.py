"""`evertune check`: every config error at once, then a sample of rows through the contract; trains nothing."""

from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, table
from evertune.errors import DataError

if TYPE_CHECKING:
    from evertune.config import Recipe

SAMPLE = 10_000  # rows that are looked at
SHOWN = 20  # labels


@click.command()
@options.recipe
@options.overrides
@options.as_json
def check(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Find every error of a recipe, put a sample of its rows through the contract, and show how they are read."""
    from evertune import base_models, preview
    from evertune.config import load
    from evertune.records import plain

    loaded = load(recipe, overrides)
    base_models.locate(loaded)
    found = preview.look(loaded, SAMPLE)
    if as_json:
        show_json(plain(found))
    else:
        _show(loaded, recipe, found)
    if found.problems:
        raise DataError("\n".join(["`evertune run` would stop:", *(f"  {problem}" for problem in found.problems)]))


def _show(recipe: "Recipe", path: str, found: Any) -> None:
    screen = console(stderr=False)
    state = "its keys are valid, its rows are not" if found.problems else "the recipe is valid"
    screen.print(f"[bold]{path}[/bold]: {state} ({recipe.objective.type}, {recipe.base_model})")
    of = f" of {found.found:,}" if found.rows < found.found else ""
    lines = [["rows looked at", f"{found.rows:,}{of}"], ["accepted", f"{found.accepted:,}"]]
    lines += [[f"refused: {reason}", f"{count:,}"] for reason, count in found.reasons.items()]
    table(screen, ["contract", "rows"], lines, right=1)
    shown = [[label, f"{count:,}"] for label, count in list(found.labels.items())[:SHOWN]]
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
