"""`evertune clean`: files that no run needs any more, listed first and removed on request."""

from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import make_console, print_table
from evertune.runtime.context import open_context

if TYPE_CHECKING:
    from evertune.audit.retention import Cleaning

SHOWN = 4  # names of each kind


@click.command()
@common.recipe
@click.option("--dry-run", is_flag=True, help="Only list the files. This is the default.")
@click.option("--yes", is_flag=True, help="Remove the files.")
@common.overrides
@common.as_json
def clean(recipe: str, dry_run: bool, yes: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the files that the recipe's `retention` does not keep, and with --yes remove them.

    These stay whole: the champion and earlier champions, versions with an alias, versions that wait for approval or
    that another model uses, and the newest runs. Of all others the files are removed; the records of versions and
    runs and the ledger stay.
    """
    from evertune.audit import retention
    from evertune.config import load_recipe
    from evertune.errors import ConfigError
    from evertune.records import to_plain

    if dry_run and yes:
        raise ConfigError("--dry-run and --yes exclude each other")
    loaded = load_recipe(recipe, list(overrides), for_data=False)
    outcome = retention.clean_home(open_context(loaded), remove=yes)
    spare = outcome.spare
    size = sum(item.bytes for item in outcome.spare)
    if as_json:
        common.show_json({"removed": yes, "bytes": size, **to_plain(outcome)})
        return
    _show_cleaning(outcome)
    if not spare:
        click.echo("nothing to remove: retention keeps everything")
    elif yes:
        click.echo(f"removed {len(spare):,} items, {_format_size(size)}")
    else:
        click.echo(f"{len(spare):,} items, {_format_size(size)}; nothing was removed. Remove them with --yes")


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
        print_table(screen, ["removable", "name", "files", "size", "why"], rows)
    if cleaning.kept:
        versions_by_reason: dict[str, list[str]] = {}
        for version, reason in cleaning.kept.items():
            versions_by_reason.setdefault(reason, []).append(str(version))
        version_rows = [[_list_names(versions), reason] for reason, versions in versions_by_reason.items()]
        print_table(screen, ["kept versions", "why"], version_rows)


def _list_names(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= SHOWN else f"{names[0]} to {names[-1]}: {len(names):,} (--json lists all)"


def _format_size(byte_count: int) -> str:
    power = min((len(str(byte_count)) - 1) // 3, 3)
    return f"{byte_count / 1000**power:,.{min(power, 1)}f} {('bytes', 'kB', 'MB', 'GB')[power]}"
