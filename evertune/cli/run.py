"""`evertune run`: the retrain flow, here and now."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import COLOURS, follow_log, format_metric, make_console, print_table

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.records import Outcome


@click.command()
@options.recipe
@options.overrides
@click.option("--force", is_flag=True, help="Retrain although nothing is new.")
@options.as_json
@click.pass_context
def run(ctx: click.Context, recipe: str, overrides: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Take in fresh rows, fine-tune a challenger, and promote it if the evidence is there."""
    from evertune.config import load_recipe
    from evertune.records import to_plain
    from tasks.notify import notify_failures

    screen = make_console()
    follow_log(screen)
    with notify_failures(recipe, overrides, "retrain"):
        loaded = load_recipe(recipe, overrides)
        outcome = None if force else _nothing_to_do(loaded)
        if outcome is None:
            outcome = _run_flow(loaded, force, bool(ctx.obj["debug"]))
    if as_json:
        show_json(to_plain(outcome))
    show_summary(screen, outcome, recipe)


def _nothing_to_do(recipe: "Recipe") -> "Outcome | None":
    """Decided from fingerprints, before Prefect or torch are imported; recorded in the ledger."""
    from evertune.data.sources import read as sources
    from evertune.registry.decisions import ledger
    from evertune.registry.tracking import unfinished
    from evertune.registry.versions import versions
    from evertune.runs import up_to_date
    from evertune.runtime.home import home_of

    home = home_of(recipe)
    if ledger.find_open_intent(home) is not None:  # a process died while it moved the champion
        versions.repair_ledger(home, recipe.registered_name)
    unchanged_state = up_to_date.check_before_start(recipe, home, sources.fingerprints)
    if unchanged_state is None:
        return None
    if unfinished.has_open_runs(home):  # of a forced run, a monitor or a backtest that was killed, or that is at work
        unfinished.close_abandoned(home, recipe.name)
    return ledger.record_unchanged(home, unchanged_state)


def _run_flow(recipe: "Recipe", force: bool, debug: bool) -> "Outcome":
    from evertune.cli.server.prefect_settings import quiet_prefect
    from evertune.data import admission
    from evertune.registry.tracking import store

    store.check_server()  # before minutes of work
    admission.start_validator()  # its process imports while this one does
    with quiet_prefect(debug, ("torch", "transformers")):
        from flows.retrain import retrain

        outcome: Outcome = retrain(recipe, force=force)
        return outcome


def show_summary(screen: Any, outcome: "Outcome", recipe: str) -> None:
    """The short table at the end, and below it what can be copied."""
    from rich.markup import escape

    lines = [*_training_lines(outcome), *_score_lines(outcome)]
    champion = f"champion is version {outcome.champion_version}" if outcome.champion_version else "no champion yet"
    lines.append(["model", f"{outcome.model}, version {outcome.version}; {champion}"])
    colour = COLOURS[outcome.decision]
    screen.print(f"\n[bold {colour}]{outcome.decision}[/bold {colour}]  {escape(outcome.reason)}", markup=True)
    print_table(screen, ["", ""], lines)
    next_lines = [f"look at   {_relative_path(outcome.report)}"] if outcome.report else []
    if outcome.report and (card := Path(outcome.report).with_name("README.md")).is_file():  # none by older runs
        next_lines.append(f"          {_relative_path(str(card))}")
    if outcome.waiting:
        next_lines += [
            f"          evertune {move} {recipe} --version {outcome.version}" for move in ("approve", "reject")
        ]
    next_lines.append(f"          evertune history {recipe}")
    if outcome.rows["refused"]:
        next_lines.append(f"          evertune quarantine {recipe}")
    for line in next_lines:
        screen.print(line, markup=False)


def _relative_path(path: str) -> Path:
    """A path as it is typed in the working folder."""
    return Path(path).relative_to(Path.cwd()) if Path(path).is_relative_to(Path.cwd()) else Path(path)


def _training_lines(outcome: "Outcome") -> list[list[str]]:
    """What came, what the contract and the splits made of it, and the training; nothing where nothing was done."""
    rows = outcome.rows
    training = outcome.training
    split_rows = outcome.snapshot["rows"]
    if outcome.decision == "unchanged":
        return []
    lines = [["rows", f"{rows['new']:,} fresh, {rows['accepted']:,} accepted, {rows['refused']:,} refused"]]
    reasons = sorted(rows["reasons"].items(), key=lambda item: -item[1])
    lines += [["", f"{count:>5,}  {reason}"] for reason, count in reasons]
    if left_out := split_rows["excluded"]:
        lines.append(["left out", f"{left_out:,} of {sum(split_rows.values()):,} rows, which bridge train and test"])
    steps = f"{training['epochs']:.1f} epochs, {training['steps']:,} steps in {training['seconds']:.0f} s"
    return [*lines, ["training", f"{steps}, loss {training['loss']:.3f}"]]


def _score_lines(outcome: "Outcome") -> list[list[str]]:
    """The first metrics on the test rows, and without those that leak."""
    lines = [["test", _format_metrics(outcome.metrics.get("test", {}))]]
    if outcome.leaked:
        clean_metrics = _format_metrics(outcome.metrics.get("test_clean", {})) or "no rows"
        lines.append(["", f"{outcome.leaked:,} test rows stand in or near train rows; without them: {clean_metrics}"])
    return lines


def _format_metrics(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {format_metric(value)}" for name, value in list(values.items())[:4])
