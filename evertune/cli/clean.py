"""`evertune clean`: what no run needs any more, listed first and removed on request."""

from typing import TYPE_CHECKING

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, table

if TYPE_CHECKING:
    from evertune.audit.retention import Cleaning

SHOWN = 4  # names of each kind


@click.command()
@options.recipe
@click.option("--dry-run", is_flag=True, help="Only list what would go: the default.")
@click.option("--yes", is_flag=True, help="Remove it.")
@options.overrides
@options.as_json
def clean(recipe: str, dry_run: bool, yes: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """List what the recipe's `retention` lets go, and with --yes remove it.

    The champion, the champions before it, versions with an alias, that wait for approval or that another model serves,
    and the newest runs stay whole; of the others the files go, and versions, runs and ledger stay as records.
    """
    from evertune.audit import retention as cleaning
    from evertune.config import load
    from evertune.errors import ConfigError
    from evertune.records import plain
    from evertune.runtime.home import home_of

    if dry_run and yes:
        raise ConfigError("--dry-run and --yes exclude each other")
    loaded = load(recipe, list(overrides), for_data=False)
    done = cleaning.clean(loaded, home_of(loaded), remove=yes)
    found, size = done.spare, sum(one.bytes for one in done.spare)
    if as_json:
        show_json({"removed": yes, "bytes": size, **plain(done)})
        return
    _show(done)
    if not found:
        click.echo("nothing to remove: retention keeps all that is there")
    elif yes:
        click.echo(f"removed: {len(found):,} things, {_size(size)}")
    else:
        click.echo(f"{len(found):,} things, {_size(size)}; nothing was removed. To remove them: add --yes")


def _show(done: "Cleaning") -> None:
    screen, rows = console(stderr=False), []
    for what in dict.fromkeys(one.what for one in done.spare):
        own = [one for one in done.spare if one.what == what]
        size = _size(sum(one.bytes for one in own))
        rows.append([what, _some([one.name for one in own]), sum(one.files for one in own), size, own[0].why])
    if rows:
        table(screen, ["goes", "which", "files", "size", "why"], rows)
    if done.kept:
        why = list(dict.fromkeys(done.kept.values()))
        by = [[_some([str(one) for one, said in done.kept.items() if said == reason]), reason] for reason in why]
        table(screen, ["versions that stay whole", "why"], by)


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= SHOWN else f"{names[0]} to {names[-1]}: {len(names):,} (--json lists all)"


def _size(count: int) -> str:
    power = min((len(str(count)) - 1) // 3, 3)
    return f"{count / 1000**power:,.{min(power, 1)}f} {('bytes', 'kB', 'MB', 'GB')[power]}"
