"""`evertune quarantine`: refused rows with their reasons, and the way back."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import format_rows, make_console, print_table
from evertune.runtime.context import open_context

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.data.quarantine.release import Release
    from evertune.runtime.home import Home

SHOWN = 20  # rows


@click.command()
@common.recipe
@click.option(
    "--export",
    "target",
    type=click.Path(path_type=Path),
    help="Write the refused rows to a CSV file, to correct them there.",
)
@click.option(
    "--release", is_flag=True, help="Check refused rows again by today's contract, and release those that pass."
)
@click.option(
    "--from", "corrected", type=click.Path(path_type=Path), help="With --release: the exported file, corrected."
)
@common.as_json
def quarantine(recipe: str, target: Path | None, release: bool, corrected: Path | None, as_json: bool) -> None:
    """List refused rows with their reasons, export them, or release corrected ones."""
    from evertune.config import load_recipe
    from evertune.data.quarantine import release as releases
    from evertune.errors import ConfigError
    from evertune.records import to_plain

    if target and (release or corrected):
        raise ConfigError(
            "--export and --release exclude each other: export, correct the file, then --release --from FILE"
        )
    loaded = load_recipe(recipe)
    context = open_context(loaded)
    screen = make_console(stderr=False)
    if release or corrected:
        released = releases.release_file(context, corrected)
        if as_json:
            common.show_json(to_plain(released))
        else:
            _show_released(screen, released, recipe)
    elif target:
        count = releases.export_refused(context.home, target)
        _show_exported(screen, count, target, recipe)
    elif as_json:
        common.show_json(releases.list_refused(context.home).to_pylist())
    else:
        _show_refused(screen, context.home)


def _show_refused(screen: "Console", home: "Home") -> None:
    from evertune.data.quarantine import release as releases

    refused_rows = releases.list_refused(home).to_pylist()
    table_rows = [
        [row["batch"], f"{row['source']}:{row['source_row']}", "; ".join(row["reasons"])]
        for row in refused_rows[:SHOWN]
    ]
    print_table(screen, ["batch", "where", "why"], table_rows)
    hidden = len(refused_rows) - SHOWN
    more = f" ({hidden:,} not shown; --json or --export FILE lists all)" if hidden > 0 else ""
    screen.print(f"{format_rows(len(refused_rows))} refused{more}")


def _show_exported(screen: "Console", count: int, target: Path, recipe: str) -> None:
    if not count:
        screen.print(f"no refused rows: nothing to correct in {target}", markup=False)
        return
    screen.print(
        f"{format_rows(count)} written to {target}; correct them there, then:\n"
        f"  evertune quarantine {recipe} --release --from {target}"
    )


def _show_released(screen: "Console", release: "Release", recipe: str) -> None:
    """How many rows were released, and why the others were not."""
    next_step = f"; the next `evertune run {recipe}` treats them as fresh rows" if release.released else ""
    screen.print(f"{format_rows(release.released)} released, {release.kept:,} still refused{next_step}", markup=False)
    for reason, count in release.reasons.items():
        screen.print(f"  {count:>6,}  {reason}", markup=False)
