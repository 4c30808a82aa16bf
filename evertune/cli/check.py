"""`evertune check`: every config error at once, then a sample of rows through the contract; trains nothing."""

import contextlib
from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import make_console, print_table
from evertune.errors import ConfigError, DataError
from evertune.runtime.context import open_context

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.config import Recipe
    from evertune.profiling.preview import Preview
    from tasks.notify import TargetStatus

SAMPLE = 10_000  # rows that go through the contract
SHOWN = 20  # labels


@click.command()
@common.recipe
@common.overrides
@click.option("--notify", "send", is_flag=True, help="Send a test message to every target of `notify`.")
@common.as_json
def check(recipe: str, overrides: tuple[str, ...], send: bool, as_json: bool) -> None:
    """List every error of a recipe, put a sample of its rows through the contract, and show how they are read.

    Nothing is trained and nothing is stored.
    """
    from evertune.config import load_recipe
    from evertune.models import base as base_models
    from evertune.profiling import preview
    from evertune.records import to_plain

    loaded = load_recipe(recipe, overrides)
    base_models.check_fit(loaded)
    if loaded.training.names_parts:
        from evertune.training import initial_model

        initial_model.check_recipe_fits(loaded)
    result = preview.preview_recipe(loaded, SAMPLE)
    channels = _list_channels(loaded, send) if loaded.notify.targets else []
    if as_json:
        common.show_json({**to_plain(result), "notify": [channel._asdict() for channel in channels]})
    else:
        _show_result(loaded, recipe, result)
        _show_channels(loaded, channels, send)
    unreachable = [
        f"notify.targets: {channel.target}, {channel.kind}: {channel.problem}"
        for channel in channels
        if channel.problem
    ]
    if unreachable:
        raise ConfigError(unreachable, recipe)
    if result.problems:
        raise DataError("\n".join(["`evertune run` would stop:", *(f"  {problem}" for problem in result.problems)]))


def _list_channels(recipe: "Recipe", send: bool) -> "list[TargetStatus]":
    """The targets of `notify` and their problems; with `send`, each was sent a test message."""
    from evertune.cli.server.prefect_settings import quiet_prefect
    from evertune.notify import notices
    from tasks import notify

    if not send:
        return notify.describe_targets(recipe)
    has_blocks = any(target.startswith("block:") for target in recipe.notify.targets)
    with quiet_prefect(False, ()) if has_blocks else contextlib.nullcontext():
        return notify.send_to_targets(recipe, notices.make_test_notice(recipe))


def _show_channels(recipe: "Recipe", channels: "list[TargetStatus]", was_sent: bool) -> None:
    if not channels:
        return
    screen = make_console(stderr=False)
    screen.print(f"notifications for: {', '.join(recipe.notify.events)}", markup=False)
    state = "test message sent" if was_sent else "not tested; --notify sends a test message"
    print_table(
        screen,
        ["target", "kind", "status"],
        [[channel.target, channel.kind, channel.problem or state] for channel in channels],
    )


def _show_result(recipe: "Recipe", path: str, result: "Preview") -> None:
    screen = make_console(stderr=False)
    state = "the keys are valid, the rows are not" if result.problems else "the recipe is valid"
    screen.print(f"[bold]{path}[/bold]: {state} ({recipe.objective.type}, {recipe.base_model})")
    _show_rows(screen, result)
    _show_labels(screen, result)
    is_estimate = result.rows < result.found
    split_counts = ", ".join(f"{count:,} {name}" for name, count in result.splits.items() if count)
    leaked = (
        f"; {result.leaked:,} or more test rows are copies or near-duplicates of train rows" if result.leaked else ""
    )
    screen.print(f"splits of a first run{' (estimated)' if is_estimate else ''}: {split_counts}{leaked}")
    print_table(
        screen,
        ["input", "target", "tokens"],
        [[example["input"], example["target"], example["tokens"]] for example in result.examples],
    )
    if result.truncated:
        about = "about " if is_estimate else ""
        longest = recipe.objective.max_length
        screen.print(f"{about}{result.truncated:,} rows are cut: longer than objective.max_length ({longest} tokens)")
    for note in (*result.notes, *_describe_held_version(recipe)):
        screen.print(f"note: {note}", markup=False)


def _describe_held_version(recipe: "Recipe") -> list[str]:
    """Say what the newest challenger waits for, if the gate held it."""
    from evertune.registry.decisions import ledger

    entries = ledger.read_entries(open_context(recipe).home)
    decisions = [entry for entry in entries if entry["event"] == "decision"]
    if not decisions or decisions[-1]["verdict"] != "held":
        return []
    return [f"the last run held version {decisions[-1]['version']}: {decisions[-1]['reason']}"]


def _show_rows(screen: "Console", result: "Preview") -> None:
    of_total = f" of {result.found:,}" if result.rows < result.found else ""
    lines = [["sampled", f"{result.rows:,}{of_total}"], ["accepted", f"{result.accepted:,}"]]
    lines += [[f"refused: {reason}", f"{count:,}"] for reason, count in result.reasons.items()]
    print_table(screen, ["contract", "rows"], lines, right=1)


def _show_labels(screen: "Console", result: "Preview") -> None:
    label_rows = [[label, f"{count:,}"] for label, count in list(result.labels.items())[:SHOWN]]
    if label_rows:
        print_table(screen, ["label", "rows"], label_rows, right=1)
    if len(result.labels) > SHOWN:
        screen.print(f"and {len(result.labels) - SHOWN:,} more labels")
