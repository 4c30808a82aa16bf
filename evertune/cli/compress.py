"""`evertune compress`: a smaller or faster variant of a version, promoted only if it answers as well."""

from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import follow_log, format_metric, make_console, print_table
from evertune.runtime.context import open_context

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.compression.compress import Method, Result

METHODS = ("int8", "prune", "onnx", "onnx-int8")


@click.command()
@common.recipe
@click.option("--method", type=click.Choice(METHODS), default="int8", show_default=True, help="How to compress.")
@common.version
@click.option(
    "--agreement",
    type=click.FloatRange(0, 1),
    default=0.97,
    show_default=True,
    help="Minimum share of rows with the same label as before.",
)
@click.option(
    "--drop", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Maximum loss of the metric."
)
@click.option(
    "--speedup", type=click.FloatRange(0), default=0.0, help="Minimum speed, as a multiple of the original's."
)
@click.option(
    "--sparsity",
    type=click.FloatRange(0, 0.99),
    default=0.5,
    show_default=True,
    help="Share of weights that --method prune removes.",
)
@common.as_json
def compress(
    recipe: str,
    method: "Method",
    version: int | None,
    agreement: float,
    drop: float,
    speedup: float,
    sparsity: float,
    as_json: bool,
) -> None:
    """Make a variant of a version, compare the two on the test rows, and promote it if it stays within the limits."""
    from evertune.compression import compress as compression
    from evertune.config import load_recipe
    from evertune.records import to_plain

    loaded = load_recipe(recipe, for_data=False)
    context = open_context(loaded)
    chosen_version = common.choose_version(context, version)
    follow_log(make_console())
    limits = compression.Limits(agreement, drop, speedup)
    with context.home.lock("run", noted=True):
        result = compression.compress_version(context, chosen_version, method, limits, sparsity)
    if as_json:
        common.show_json(to_plain(result))
    else:
        _show_result(make_console(stderr=False), result)


def _show_result(screen: "Console", result: "Result") -> None:
    screen.print(f"\n[bold]{result.verdict}[/bold]  {result.reason}\n")
    lines = [[name, format_metric(old), format_metric(new)] for name, (old, new) in result.metrics.items()]
    sizes = [f"{value / 1e6:.1f} MB" for value in result.bytes]
    timings = [f"{value:.0f} ms" for value in result.milliseconds]
    print_table(
        screen,
        ["on the test rows", f"version {result.of}", f"version {result.version}, {result.method}"],
        [*lines, ["model size", *sizes], ["time for 256 rows", *timings]],
    )
