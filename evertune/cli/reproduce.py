"""`evertune reproduce`: train a version again from its record, and compare."""

from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import follow_log, format_metric, make_console, print_table
from evertune.runtime.context import open_context

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.audit.reproduce import Reproduction

WORDS = {
    "identical": "identical bit for bit",
    "same": "equivalent, though not bit for bit: no metric differs by more than {tolerance:.2f}",
    "different": "DIFFERENT: a metric differs by more than {tolerance:.2f}",
}
DIFFERENT = 4  # exit status


@click.command()
@common.recipe
@common.version
@common.as_json
@click.pass_context
def reproduce(ctx: click.Context, recipe: str, version: int | None, as_json: bool) -> int:
    """Train a version again from its record, in a folder of its own, and compare it with the registered one.

    The exit status is 4 if a metric differs.
    """
    from evertune.audit import reproduce as reproduction
    from evertune.config import load_recipe
    from evertune.records import to_plain

    loaded = load_recipe(recipe, for_data=False)
    context = open_context(loaded)
    chosen_version = common.choose_version(context, version)
    follow_log(make_console())
    result = reproduction.reproduce_version(context, chosen_version)
    if as_json:
        common.show_json(to_plain(result))
    else:
        _show_result(make_console(stderr=False), result)
    return DIFFERENT if result.verdict == "different" else 0


def _show_result(screen: "Console", result: "Reproduction") -> None:
    screen.print(
        f"version {result.version} of {result.model}: {WORDS[result.verdict].format(tolerance=result.tolerance)}\n"
    )
    lines = [["weights differ by", _format_difference(result.weights)], ["rows", _format_counts(result.rows)]]
    if result.lost:
        forgotten = f"; of these forgotten on request: {_format_counts(result.forgotten)}" if result.forgotten else ""
        lines.append(["missing rows", f"{_format_counts(result.lost)}{forgotten}"])
    print_table(screen, ["", ""], [*lines, *(["record", gap] for gap in result.missing)])
    print_table(
        screen,
        ["on the test rows", "registered", "reproduced"],
        [
            [name, format_metric(result.registered.get(name)), format_metric(value)]
            for name, value in result.metrics.items()
        ],
    )
    if result.environment:
        screen.print("\nthe environment has changed")
        print_table(
            screen,
            ["", "then", "now"],
            [[name, "not recorded" if then is None else then, now] for name, (then, now) in result.environment.items()],
        )


def _format_difference(weights: float | None) -> str:
    if weights is None:
        return "not comparable: the shapes differ, or the model is a graph"
    return f"at most {weights:.2g}" if weights else "nothing"


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
