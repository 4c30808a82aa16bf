"""`evertune check`: every config error at once, then a sample of rows through the contract; trains nothing."""

from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, table

if TYPE_CHECKING:
    from evertune.config import Recipe

SAMPLE = 2000  # rows that are looked at
SHOWN = 3


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
        return
    _show(loaded, recipe, found)


def _show(recipe: "Recipe", path: str, found: Any) -> None:
    screen = console(stderr=False)
    screen.print(f"[bold]{path}[/bold]: the recipe is valid ({recipe.objective.type}, {recipe.base_model})")
    lines = [["rows looked at", f"{found.rows:,}"], ["accepted", f"{found.accepted:,}"]]
    lines += [[f"refused: {reason}", f"{count:,}"] for reason, count in found.reasons.items()]
    table(screen, ["contract", "rows"], lines, right=1)
    table(screen, ["label", "rows"], [[label, f"{count:,}"] for label, count in found.labels.items()], right=1)
    table(
        screen,
        ["input", "target", "tokens"],
        [[one["input"], one["target"], one["tokens"]] for one in found.examples],
    )
    if found.truncated:
        screen.print(
            f"{found.truncated:,} rows are longer than objective.max_length {recipe.objective.max_length}: cut"
        )
    for note in found.notes:
        screen.print(f"note: {note}", markup=False)
