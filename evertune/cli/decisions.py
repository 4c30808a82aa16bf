"""The ledger, and the moves that a person makes: history, promote, approve, reject, rollback."""

from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import make_console, print_table

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.registry.decisions.ledger import Entry
    from evertune.runtime.home import Home

version = click.option("--version", type=int, required=True, help="Registered version.")


@click.command()
@common.recipe
@common.as_json
def history(recipe: str, as_json: bool) -> None:
    """Show every decision and alias change, oldest first."""
    from evertune.registry.decisions import ledger

    _, home = _open_recipe(recipe)
    if as_json:
        common.show_json(ledger.read_entries(home))
        return
    rows = [
        [
            _format_time(event),
            describe_event(event),
            _format_versions(event),
            event["who"],
            event.get("held") or event.get("reason"),
        ]
        for event in list_events(home)
    ]
    if not rows:
        make_console(stderr=False).print(f"no decision yet; `evertune run {recipe}` makes the first", markup=False)
        return
    print_table(make_console(stderr=False), ["time (UTC)", "what", "version", "who", "why"], rows)


@click.command()
@common.recipe
@version
@common.reason
def promote(recipe: str, version: int, reason: str) -> None:
    """Make a version champion by hand, whatever the gate decided."""
    from evertune.registry.decisions import promotion

    loaded, home = _open_recipe(recipe)
    promotion.promote_version(home, loaded.registered_name, version, reason)
    _print_outcome(loaded, f"version {version} is champion")


@click.command()
@common.recipe
@version
@common.reason
def approve(recipe: str, version: int, reason: str) -> None:
    """Make a version champion that passed the gate and waits for approval (registry.promote: ask)."""
    from evertune.registry.decisions import promotion

    loaded, home = _open_recipe(recipe)
    promotion.approve_version(home, loaded.registered_name, version, reason, loaded.registry.waiting_time)
    _print_outcome(loaded, f"version {version} is approved and champion")


@click.command()
@common.recipe
@version
@common.reason
def reject(recipe: str, version: int, reason: str) -> None:
    """Turn down a version that waits for approval."""
    from evertune.registry.decisions import promotion

    loaded, home = _open_recipe(recipe)
    promotion.reject_version(home, loaded.registered_name, version, reason)
    _print_outcome(loaded, f"version {version} is rejected")


@click.command()
@common.recipe
@common.reason
def rollback(recipe: str, reason: str) -> None:
    """Make the previous champion champion again."""
    from evertune.registry.decisions import promotion

    loaded, home = _open_recipe(recipe)
    predecessor = promotion.roll_back_champion(home, loaded.registered_name, reason)
    _print_outcome(loaded, f"version {predecessor} is champion again")


def list_events(home: "Home") -> "list[Entry]":
    """Return the ledger's entries for people, oldest first: all but the intents to move the champion."""
    from evertune.registry.decisions import ledger

    return [entry for entry in ledger.read_entries(home) if entry["event"] != "intent"]


def describe_event(event: "Entry") -> str:
    """Return the verdict of a decision, what a trigger did, or else the name of the event."""
    if event["event"] == "trigger":
        return f"{event['trigger']}: {'retrain' if event['starts'] else 'held'}"
    return str(event.get("verdict") or event["event"])


def _open_recipe(path: str) -> tuple["Recipe", "Home"]:
    from evertune.config import load_recipe
    from evertune.runtime.home import home_of

    recipe = load_recipe(path, for_data=False)  # in an incident nobody should need the secrets of every source
    return recipe, home_of(recipe)


def _print_outcome(recipe: "Recipe", text: str) -> None:
    make_console().print(f"{recipe.registered_name}: {text}")


def _format_time(event: "Entry") -> str:
    return str(event["time"]).replace("T", " ")[:19]


def _format_versions(event: "Entry") -> str:
    if "to" in event:
        return f"{event['from'] or 'none'} -> {event['to']}"
    return str(event.get("version") or event.get("champion") or "")
