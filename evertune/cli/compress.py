"""`evertune compress`: a smaller or faster variant of a version, champion only if it answers as well."""

from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import follow_log, format_metric, make_console, print_table

if TYPE_CHECKING:
    from evertune.compression.compress import Result

METHODS = ("int8", "prune", "onnx", "onnx-int8")


@click.command()
@options.recipe
@click.option("--method", type=click.Choice(METHODS), default="int8", show_default=True, help="How it is compressed.")
@click.option("--version", type=int, help="Registered version. Default: the champion.")
@click.option(
    "--agreement", type=click.FloatRange(0, 1), default=0.97, show_default=True, help="Least share of equal labels."
)
@click.option(
    "--drop", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Largest loss of the metric."
)
@click.option("--speedup", type=click.FloatRange(0), default=0.0, help="Least speed, in multiples of the original's.")
@click.option("--sparsity", type=click.FloatRange(0, 0.99), default=0.5, show_default=True, help="Of `prune`.")
@options.as_json
def compress(
    recipe: str,
    method: Any,
    version: int | None,
    agreement: float,
    drop: float,
    speedup: float,
    sparsity: float,
    as_json: bool,
) -> int:
    """Make a variant of a version, compare the two on the test rows, and promote it if it keeps within the limits."""
    from evertune.compression import compress as compression
    from evertune.config import load_recipe
    from evertune.errors import RegistryError
    from evertune.records import to_plain
    from evertune.registry.versions import versions
    from evertune.runtime.home import home_of

    loaded = load_recipe(recipe, for_data=False)
    home = home_of(loaded)
    chosen_version = version if version is not None else versions.find_champion(home, loaded.registered_name)
    if chosen_version is None:
        raise RegistryError(f"{loaded.registered_name} has no champion yet; name a version with --version")
    follow_log(make_console())
    limits = compression.Limits(agreement, drop, speedup)
    with home.lock("run", noted=True):
        result = compression.compress_version(loaded, home, chosen_version, method, limits, sparsity)
    if as_json:
        show_json(to_plain(result))
    else:
        _show_result(make_console(stderr=False), result)
    return 0


def _show_result(screen: Any, result: "Result") -> None:
    screen.print(f"\n[bold]{result.verdict}[/bold]  {result.reason}\n")
    lines = [[name, format_metric(old), format_metric(new)] for name, (old, new) in result.metrics.items()]
    sizes = [f"{value / 1e6:.1f} MB" for value in result.bytes]
    timings = [f"{value:.0f} ms" for value in result.milliseconds]
    print_table(
        screen,
        ["on the test rows", f"version {result.of}", f"version {result.version}, {result.method}"],
        [*lines, ["size of the model", *sizes], ["256 rows", *timings]],
    )
