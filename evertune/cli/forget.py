"""`evertune forget`: remove rows that a person wants forgotten."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import follow_log, make_console, print_table
from evertune.runtime.context import open_context

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.audit.forgetting.forget import Forgotten, SeenVersion

STORES = {"corpus": "the corpus", "quarantine": "the quarantine", "batches": "waiting batches"}


@click.command()
@common.recipe
@click.option("--id", "ids", multiple=True, metavar="ID", help="An id, or a row_version of the quarantine; repeatable.")
@click.option("--ids-file", type=click.Path(path_type=Path), help="A text file with an id on each line.")
@click.option(
    "--group", "groups", multiple=True, metavar="GROUP", help="All rows of a group, such as a customer; repeatable."
)
@click.option("--text", "texts", multiple=True, help="All rows with this text, for rows without an id; repeatable.")
@common.reason
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@common.as_json
def forget(
    recipe: str,
    ids: tuple[str, ...],
    ids_file: Path | None,
    groups: tuple[str, ...],
    texts: tuple[str, ...],
    reason: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove rows in all their versions from everything that Evertune keeps. They are never ingested again."""
    from evertune.audit.forgetting import forget as forgetting
    from evertune.config import load_recipe
    from evertune.errors import ConfigError
    from evertune.records import to_plain

    selection = {"id": [*ids, *(_read_lines(ids_file) if ids_file else ())], "group": groups, "text": texts}
    if not any(value.strip() for values in selection.values() for value in values):
        if ids_file:
            raise ConfigError(f"--ids-file {ids_file}: the file holds no id; write one id per line")
        raise ConfigError("name the rows to forget with --id, --ids-file, --group or --text")
    loaded = load_recipe(recipe, for_data=False)
    follow_log(make_console())
    forgotten = forgetting.forget_rows(open_context(loaded), selection, reason, dry_run=dry_run)
    if as_json:
        common.show_json(to_plain(forgotten))
    else:
        _show_forgotten(make_console(stderr=False), forgotten, recipe)


def _read_lines(path: Path) -> list[str]:
    from evertune.errors import DataError

    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--ids-file {path}: {error}; give a UTF-8 text file with one id per line") from error


def _show_forgotten(screen: "Console", forgotten: "Forgotten", recipe: str) -> None:
    per_store = ", ".join(f"{count:,} in {STORES[store]}" for store, count in forgotten.rows.items() if count)
    count = f"{sum(forgotten.rows.values()):,} row versions{f': {per_store}' if per_store else ''}"
    files = f"{forgotten.files['pages']:,} pages and samples that show them, {forgotten.files['tokens']:,} token files"
    lines = [["would be removed" if forgotten.dry_run else "removed", count]]
    if forgotten.known:
        lines.append(["earlier", f"{forgotten.known:,} of the named ids were forgotten before"])
    print_table(screen, ["", ""], [*lines, ["files", files]])
    if forgotten.versions:
        screen.print("\nmodel versions that were trained or tested on them")
        print_table(
            screen,
            ["version", "aliases", "rows"],
            [[entry["version"], ", ".join(entry["aliases"]), _format_seen_rows(entry)] for entry in forgotten.versions],
        )
    screen.print("\nnot removed: outside Evertune's reach")
    for item in forgotten.outside:
        screen.print(f"  {item}")
    if forgotten.versions:
        _show_next_steps(screen, forgotten, recipe)


def _format_seen_rows(entry: "SeenVersion") -> str:
    """The rows that a version has seen, or else the versions that it descends from."""
    if entry["rows"]:
        return ", ".join(f"{rows:,} {split}" for split, rows in entry["rows"].items())
    plural = "s" if len(entry["descends"]) > 1 else ""
    return f"descends from version{plural} {', '.join(map(str, entry['descends']))}"


def _show_next_steps(screen: "Console", forgotten: "Forgotten", recipe: str) -> None:
    screen.print("\nnext, to train a model that has not seen them:")
    if forgotten.fresh_start:
        screen.print(f"  evertune run {recipe} --set data.fresh.start_from=base")
        screen.print("  (from the base model, because the champion's weights have learned from the rows)")
    else:
        screen.print(f"  evertune run {recipe}")
