"""`evertune quarantine`: refused rows with their reasons, and the way back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import make_console, print_table

if TYPE_CHECKING:
    from evertune.data.quarantine.release import Release

SHOWN = 20


@click.command()
@options.recipe
@click.option(
    "--export",
    "target",
    type=click.Path(path_type=Path),
    help="Write the refused rows to a CSV file, to mend them there.",
)
@click.option(
    "--release", is_flag=True, help="Judge refused rows again by today's contract and take in those that pass."
)
@click.option(
    "--from", "mended", type=click.Path(path_type=Path), help="With --release: the exported file with mended values."
)
@options.as_json
def quarantine(recipe: str, target: Path | None, release: bool, mended: Path | None, as_json: bool) -> None:
    """List refused rows with their reasons; export them; put mended rows back."""
    from evertune.config import load_recipe
    from evertune.data.quarantine import release as releases
    from evertune.errors import ConfigError
    from evertune.records import to_plain
    from evertune.runtime.home import home_of

    if target and (release or mended):
        raise ConfigError(
            "--export and --release exclude each other: export, mend the file, then --release --from FILE"
        )
    loaded = load_recipe(recipe)
    home = home_of(loaded)
    screen = make_console(stderr=False)
    if release or mended:
        released = releases.release_file(loaded, home, mended)
        show_json(to_plain(released)) if as_json else _show_released(screen, released, recipe)
        return
    if target:
        count = releases.export_refused(home, target)
        if not count:
            screen.print(f"0 refused rows: there is nothing to mend in {target}", markup=False)
            return
        screen.print(
            f"{count:,} rows written to {target}; mend them there, then:\n"
            f"  evertune quarantine {recipe} --release --from {target}"
        )
        return
    refused_rows = releases.list_refused(home).to_pylist()
    if as_json:
        show_json(refused_rows)
        return
    table_rows = [
        [row["batch"], f"{row['source']}:{row['source_row']}", "; ".join(row["reasons"])]
        for row in refused_rows[:SHOWN]
    ]
    print_table(screen, ["batch", "where", "why"], table_rows)
    more = (
        f" (+{len(refused_rows) - SHOWN:,} more; --export FILE or --json for all)" if len(refused_rows) > SHOWN else ""
    )
    screen.print(f"{len(refused_rows):,} refused rows{more}")


def _show_released(screen: Any, release: "Release", recipe: str) -> None:
    """What became of the rows, and why the others stay."""
    next_step = f"; the next `evertune run {recipe}` takes them for fresh ones" if release.released else ""
    screen.print(f"{release.released:,} rows released, {release.kept:,} stay{next_step}", markup=False)
    for reason, count in release.reasons.items():
        screen.print(f"  {count:>6,}  {reason}", markup=False)
