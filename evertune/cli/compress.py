"""`evertune compress`: a smaller or faster variant of a version, champion only if it answers as well."""

from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, follow, number, table

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
    recipe: str, method: Any, version: int | None, agreement: float, drop: float, speedup: float, sparsity: float,
    as_json: bool,
) -> int:  # fmt: skip
    """Make a variant of a version, compare the two on the test rows, and promote it if it keeps within the limits."""
    from evertune.compression import compress as compression
    from evertune.config import load
    from evertune.errors import RegistryError
    from evertune.records import plain
    from evertune.registry.versions import versions as models
    from evertune.runtime.home import home_of

    loaded = load(recipe, for_data=False)
    home = home_of(loaded)
    wanted = version if version is not None else models.champion(home, loaded.registered_name)
    if wanted is None:
        raise RegistryError(f"{loaded.registered_name} has no champion yet; name a version with --version")
    follow(console())
    limits = compression.Limits(agreement, drop, speedup)
    with home.lock("run", noted=True):
        found = compression.compress(loaded, home, wanted, method, limits, sparsity)
    if as_json:
        show_json(plain(found))
    else:
        _show(console(stderr=False), found)
    return 0


def _show(screen: Any, found: "Result") -> None:
    screen.print(f"\n[bold]{found.verdict}[/bold]  {found.reason}\n")
    lines = [[name, number(old), number(new)] for name, (old, new) in found.metrics.items()]
    sizes = [f"{value / 1e6:.1f} MB" for value in found.bytes]
    took = [f"{value:.0f} ms" for value in found.milliseconds]
    table(
        screen, ["on the test rows", f"version {found.of}", f"version {found.version}, {found.method}"],
        [*lines, ["size of the model", *sizes], ["256 rows", *took]],
    )  # fmt: skip
