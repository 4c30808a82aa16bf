"""`evertune reproduce`: a version trained again from its record."""

from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import follow_log, format_metric, make_console, print_table

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
    from evertune.config import load_recipe
    from evertune.errors import RegistryError
    from evertune.records import to_plain
    from evertune.registry.versions import versions
    from evertune.runtime.home import home_of

    loaded = load_recipe(recipe, for_data=False)
    home = home_of(loaded)
    chosen_version = version if version is not None else versions.find_champion(home, loaded.registered_name)
    if chosen_version is None:
        raise RegistryError(f"{loaded.registered_name} has no champion yet; name one with --version")
    follow_log(make_console())
    result = reproduction.reproduce_version(loaded, home, chosen_version)
    if as_json:
        show_json(to_plain(result))
    else:
        _show_result(make_console(stderr=False), result)
    return DIFFERENT if result.verdict == "different" else 0


def _show_result(screen: Any, result: "Reproduction") -> None:
    screen.print(
        f"version {result.version} of {result.model}: {WORDS[result.verdict].format(tolerance=result.tolerance)}\n"
    )
    weights = "not comparable: other shapes, or a graph" if result.weights is None else f"{result.weights:.2g} at most"
    lines = [
        ["weights differ by", weights if result.weights != 0 else "nothing"],
        ["rows", _format_counts(result.rows)],
    ]
    if result.lost:
        forgotten = f"; forgotten on request: {_format_counts(result.forgotten)}" if result.forgotten else ""
        lines.append(["rows that are gone", f"{_format_counts(result.lost)}{forgotten}"])
    print_table(screen, ["", ""], [*lines, *(["record", gap] for gap in result.missing)])
    print_table(
        screen,
        ["on the test rows", "then", "again"],
        [
            [name, format_metric(result.registered.get(name)), format_metric(value)]
            for name, value in result.metrics.items()
        ],
    )
    if result.environment:
        screen.print("\nthe environment is not as it was")
        print_table(
            screen,
            ["", "then", "now"],
            [[name, "not recorded" if then is None else then, now] for name, (then, now) in result.environment.items()],
        )


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
