"""`evertune reproduce`: a version trained again from its record."""

from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, follow, number, table

if TYPE_CHECKING:
    from evertune.audit.reproduce import Reproduction

WORDS = {
    "identical": "identical bit for bit",
    "same": "the same, though not bit for bit: no metric differs by more than {tolerance:.2f}",
    "different": "NOT the same: a metric differs by more than {tolerance:.2f}",
}
DIFFERENT = 4  # exit status


@click.command()
@options.recipe
@click.option("--version", type=int, help="Registered version. Default: the champion.")
@options.as_json
@click.pass_context
def reproduce(ctx: click.Context, recipe: str, version: int | None, as_json: bool) -> int:
    """Train a version again, as its record says, in a place apart, and compare it with the registered one.

    Exit status 4 where it is not the same.
    """
    from evertune.audit import reproduce as reproduction
    from evertune.config import load
    from evertune.errors import RegistryError
    from evertune.records import plain
    from evertune.registry.versions import versions as models
    from evertune.runtime.home import home_of

    loaded = load(recipe, for_data=False)
    home = home_of(loaded)
    wanted = version if version is not None else models.champion(home, loaded.registered_name)
    if wanted is None:
        raise RegistryError(f"{loaded.registered_name} has no champion yet; name one with --version")
    follow(console())
    found = reproduction.reproduce(loaded, home, wanted)
    if as_json:
        show_json(plain(found))
    else:
        _show(console(stderr=False), found)
    return DIFFERENT if found.verdict == "different" else 0


def _show(screen: Any, found: "Reproduction") -> None:
    screen.print(
        f"version {found.version} of {found.model}: {WORDS[found.verdict].format(tolerance=found.tolerance)}\n"
    )
    weights = "not comparable: other shapes, or a graph" if found.weights is None else f"{found.weights:.2g} at most"
    lines = [["weights differ by", weights if found.weights != 0 else "nothing"], ["rows", _rows(found.rows)]]
    if found.lost:
        forgotten = f"; forgotten on request: {_rows(found.forgotten)}" if found.forgotten else ""
        lines.append(["rows that are gone", f"{_rows(found.lost)}{forgotten}"])
    table(screen, ["", ""], [*lines, *(["record", one] for one in found.missing)])
    table(screen, ["on the test rows", "then", "again"], [
        [name, number(found.registered.get(name)), number(value)] for name, value in found.metrics.items()
    ])  # fmt: skip
    if found.environment:
        screen.print("\nthe environment is not as it was")
        table(screen, ["", "then", "now"], [
            [name, "not recorded" if then is None else then, now] for name, (then, now) in found.environment.items()
        ])  # fmt: skip


def _rows(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
