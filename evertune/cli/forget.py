"""`evertune forget`: rows that a person wants forgotten."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console, follow, table

if TYPE_CHECKING:
    from evertune.audit.forgetting.forget import Forgotten

PLACES = {"corpus": "the corpus", "quarantine": "the quarantine", "batches": "batches that wait"}


@click.command()
@options.recipe
@click.option(
    "--id", "ids", multiple=True, metavar="ID", help="An id, or a row_version of the quarantine; may stand often."
)
@click.option("--ids-file", type=click.Path(path_type=Path), help="A text file with an id on each line.")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="All rows of a group, such as a customer's.")
@click.option("--text", "texts", multiple=True, help="All rows with this text, for rows without an id.")
@options.reason
@click.option("--dry-run", is_flag=True, help="Tell what would go; nothing does.")
@options.as_json
def forget(
    recipe: str, ids: tuple[str, ...], ids_file: Path | None, groups: tuple[str, ...], texts: tuple[str, ...],
    reason: str, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Remove rows, all their versions, from everything that Evertune keeps; they are never taken in again."""
    from evertune.audit.forgetting import forget as forgetting
    from evertune.config import load
    from evertune.errors import ConfigError
    from evertune.records import plain
    from evertune.runtime.home import home_of

    wanted = {"id": [*ids, *(_lines(ids_file) if ids_file else ())], "group": groups, "text": texts}
    if not any(one.strip() for given in wanted.values() for one in given):
        if ids_file:
            raise ConfigError(f"--ids-file {ids_file}: there is no id in it; write one on each line")
        raise ConfigError("name what is to be forgotten: --id, --ids-file, --group or --text")
    loaded = load(recipe, for_data=False)
    follow(console())
    done = forgetting.forget(loaded, home_of(loaded), wanted, reason, dry_run=dry_run)
    if as_json:
        show_json(plain(done))
    else:
        _show(console(stderr=False), done, recipe)


def _lines(path: Path) -> list[str]:
    from evertune.errors import DataError

    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--ids-file {path}: {error}; give a UTF-8 text file with an id on each line") from error


def _show(screen: Any, done: "Forgotten", recipe: str) -> None:
    places = ", ".join(f"{count:,} in {PLACES[place]}" for place, count in done.rows.items() if count)
    count = f"{sum(done.rows.values()):,} row versions{f': {places}' if places else ''}"
    files = f"{done.files['pages']:,} pages and samples that show them, {done.files['tokens']:,} token files"
    before = [["before", f"{done.known:,} of those named had been forgotten already"]] if done.known else []
    table(screen, ["", ""], [["would go" if done.dry_run else "forgotten", count], *before, ["files", files]])
    if done.versions:
        screen.print("\nmodel versions that have seen them")
        table(screen, ["version", "aliases", "rows"], [
            [one["version"], ", ".join(one["aliases"]), _seen(one)] for one in done.versions
        ])  # fmt: skip
    screen.print("\nout of Evertune's reach")
    for one in done.outside:
        screen.print(f"  {one}")
    if done.versions:
        _next(screen, done, recipe)


def _seen(one: dict[str, Any]) -> str:
    """The rows that a version has seen, else from whom it has them."""
    if one["rows"]:
        return ", ".join(f"{rows:,} {split}" for split, rows in one["rows"].items())
    several = "s" if len(one["descends"]) > 1 else ""
    return f"descends from version{several} {', '.join(map(str, one['descends']))}"


def _next(screen: Any, done: "Forgotten", recipe: str) -> None:
    screen.print("\nnext, to have a model that has not learned from them:")
    if done.fresh_start:
        screen.print(f"  evertune run {recipe} --set data.fresh.start_from=base")
        screen.print("  (from the base model: the champion's weights have learned from the rows)")
    else:
        screen.print(f"  evertune run {recipe}")
