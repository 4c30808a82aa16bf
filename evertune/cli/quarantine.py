"""`evertune quarantine`: refused rows with their reasons, and the way back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, table

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
    from evertune.config import load
    from evertune.data.quarantine import release as rows
    from evertune.errors import ConfigError
    from evertune.records import plain
    from evertune.runtime.home import home_of

    if target and (release or mended):
        raise ConfigError(
            "--export and --release exclude each other: export, mend the file, then --release --from FILE"
        )
    loaded = load(recipe)
    home, screen = home_of(loaded), console(stderr=False)
    if release or mended:
        done = rows.release_file(loaded, home, mended)
        show_json(plain(done)) if as_json else _released(screen, done, recipe)
        return
    if target:
        count = rows.export(home, target)
        if not count:
            screen.print(f"0 refused rows: there is nothing to mend in {target}", markup=False)
            return
        screen.print(
            f"{count:,} rows written to {target}; mend them there, then:\n"
            f"  evertune quarantine {recipe} --release --from {target}"
        )
        return
    listed = rows.listing(home).to_pylist()
    if as_json:
        show_json(listed)
        return
    shown = [
        [one["batch"], f"{one['source']}:{one['source_row']}", "; ".join(one["reasons"])] for one in listed[:SHOWN]
    ]
    table(screen, ["batch", "where", "why"], shown)
    more = f" (+{len(listed) - SHOWN:,} more; --export FILE or --json for all)" if len(listed) > SHOWN else ""
    screen.print(f"{len(listed):,} refused rows{more}")


def _released(screen: Any, done: "Release", recipe: str) -> None:
    """What became of the rows, and why the others stay."""
    then = f"; the next `evertune run {recipe}` takes them for fresh ones" if done.released else ""
    screen.print(f"{done.released:,} rows released, {done.kept:,} stay{then}", markup=False)
    for reason, count in done.reasons.items():
        screen.print(f"  {count:>6,}  {reason}", markup=False)
