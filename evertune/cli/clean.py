"""`evertune clean`: what no run needs any more, listed first and removed on request."""

from typing import TYPE_CHECKING

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import make_console, print_table

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
    from evertune.audit import retention
    from evertune.config import load_recipe
    from evertune.errors import ConfigError
    from evertune.records import to_plain
    from evertune.runtime.home import home_of

    if dry_run and yes:
        raise ConfigError("--dry-run and --yes exclude each other")
    loaded = load_recipe(recipe, list(overrides), for_data=False)
    outcome = retention.clean_home(loaded, home_of(loaded), remove=yes)
    spare = outcome.spare
    size = sum(item.bytes for item in outcome.spare)
    if as_json:
        show_json({"removed": yes, "bytes": size, **to_plain(outcome)})
        return
    _show_cleaning(outcome)
    if not spare:
        click.echo("nothing to remove: retention keeps all that is there")
    elif yes:
        click.echo(f"removed: {len(spare):,} things, {_format_size(size)}")
    else:
        click.echo(f"{len(spare):,} things, {_format_size(size)}; nothing was removed. To remove them: add --yes")


def _show_cleaning(cleaning: "Cleaning") -> None:
    screen = make_console(stderr=False)
    rows = []
    for kind in dict.fromkeys(item.what for item in cleaning.spare):
        of_kind = [item for item in cleaning.spare if item.what == kind]
        size = _format_size(sum(item.bytes for item in of_kind))
        rows.append(
            [
                kind,
                _list_names([item.name for item in of_kind]),
                sum(item.files for item in of_kind),
                size,
                of_kind[0].why,
            ]
        )
    if rows:
        print_table(screen, ["goes", "which", "files", "size", "why"], rows)
    if cleaning.kept:
        reasons = list(dict.fromkeys(cleaning.kept.values()))
        version_rows = [
            [
                _list_names(
                    [str(version) for version, given_reason in cleaning.kept.items() if given_reason == reason]
                ),
                reason,
            ]
            for reason in reasons
        ]
        print_table(screen, ["versions that stay whole", "why"], version_rows)


def _list_names(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= SHOWN else f"{names[0]} to {names[-1]}: {len(names):,} (--json lists all)"


def _format_size(byte_count: int) -> str:
    power = min((len(str(byte_count)) - 1) // 3, 3)
    return f"{byte_count / 1000**power:,.{min(power, 1)}f} {('bytes', 'kB', 'MB', 'GB')[power]}"
