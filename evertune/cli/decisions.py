"""The ledger, and the moves that a person makes: history, promote, approve, reject, rollback."""

from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import make_console, print_table

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.runtime.home import Home

version = click.option("--version", type=int, required=True, help="Registered version.")


@click.command()
@options.recipe
@options.as_json
def history(recipe: str, as_json: bool) -> None:
    """Show every decision and alias change, oldest first."""
    from evertune.registry.decisions import ledger

    _, home = _open_recipe(recipe)
    entries = ledger.read_entries(home)
    if as_json:
        show_json(entries)
        return
    rows = [
        [
            _format_time(entry),
            _describe_event(entry),
            _format_versions(entry),
            entry["who"],
            entry.get("held") or entry.get("reason"),
        ]
        for entry in entries
        if entry["event"] != "intent"
    ]
    if not rows:
        make_console(stderr=False).print(f"no decision yet; `evertune run {recipe}` makes the first", markup=False)
        return
    print_table(make_console(stderr=False), ["time (UTC)", "what", "version", "who", "why"], rows)


@click.command()
@options.recipe
@version
@options.reason
def promote(recipe: str, version: int, reason: str) -> None:
    """Make a version champion by hand, whatever the gate said."""
    from evertune.registry.decisions import promotion

    loaded, home = _open_recipe(recipe)
    promotion.promote_version(home, loaded.registered_name, version, reason)
    _print_outcome(loaded, f"version {version} is champion")


@click.command()
@options.recipe
@version
@options.reason
def approve(recipe: str, version: int, reason: str) -> None:
    """Make a version champion that passed the gate and waits (registry.promote: ask)."""
    from evertune.registry.decisions import promotion

    loaded, home = _open_recipe(recipe)
    promotion.approve_version(home, loaded.registered_name, version, reason, loaded.registry.waiting_time)
    _print_outcome(loaded, f"version {version} is approved and champion")


@click.command()
@options.recipe
@version
@options.reason
def reject(recipe: str, version: int, reason: str) -> None:
    """Turn a waiting version down."""
    from evertune.registry.decisions import promotion

    loaded, home = _open_recipe(recipe)
    promotion.reject_version(home, loaded.registered_name, version, reason)
    _print_outcome(loaded, f"version {version} is rejected")


@click.command()
@options.recipe
@options.reason
def rollback(recipe: str, reason: str) -> None:
    """Make the champion's predecessor champion again."""
    from evertune.registry.decisions import promotion

    loaded, home = _open_recipe(recipe)
    predecessor = promotion.roll_back_champion(home, loaded.registered_name, reason)
    _print_outcome(loaded, f"version {predecessor} is champion again")


def _open_recipe(path: str) -> tuple["Recipe", "Home"]:
    from evertune.config import load_recipe
    from evertune.runtime.home import home_of

    recipe = load_recipe(path, for_data=False)  # in an incident nobody shall need the secrets of every source
    return recipe, home_of(recipe)


def _print_outcome(recipe: "Recipe", text: str) -> None:
    make_console().print(f"{recipe.registered_name}: {text}")


def _describe_event(entry: dict[str, Any]) -> str:
    if entry["event"] == "trigger":
        return f"{entry['trigger']}: {'retrain' if entry['starts'] else 'held'}"
    return str(entry.get("verdict") or entry["event"])


def _format_time(entry: dict[str, Any]) -> str:
    return str(entry["time"]).replace("T", " ")[:19]


def _format_versions(entry: dict[str, Any]) -> str:
    if "to" in entry:
        return f"{entry['from'] or 'none'} -> {entry['to']}"
    return str(entry.get("version") or entry.get("champion") or "")
