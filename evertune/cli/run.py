"""`evertune run`: the retrain flow, here and now."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evertune.cli import common
from evertune.cli.terminal import COLOURS, follow_log, format_metric, make_console, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from evertune.records import Outcome


@click.command()
@common.recipe
@common.overrides
@click.option("--force", is_flag=True, help="Retrain although nothing is new.")
@common.as_json
@click.pass_context
def run(ctx: click.Context, recipe: str, overrides: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Ingest fresh rows, fine-tune a challenger, and promote it if the evidence is there."""
    from evertune.cli.flow_runs import run_retrain
    from evertune.records import to_plain

    screen = make_console()
    follow_log(screen)
    outcome = run_retrain(recipe, overrides, force=force, debug=bool(ctx.obj["debug"]))
    if as_json:
        common.show_json(to_plain(outcome))
    show_summary(screen, outcome, recipe)


def show_summary(screen: "Console", outcome: "Outcome", recipe: str) -> None:
    """Print the short table at the end, and below it paths and commands to copy."""
    from rich.markup import escape

    champion = f"champion is version {outcome.champion_version}" if outcome.champion_version else "no champion yet"
    lines = [
        *_training_lines(outcome),
        *_score_lines(outcome),
        ["model", f"{outcome.model}, version {outcome.version}; {champion}"],
    ]
    colour = COLOURS[outcome.decision]
    screen.print(f"\n[bold {colour}]{outcome.decision}[/bold {colour}]  {escape(outcome.reason)}", markup=True)
    print_table(screen, ["", ""], lines)
    for line in _next_lines(outcome, recipe):
        screen.print(line, markup=False)


def _next_lines(outcome: "Outcome", recipe: str) -> list[str]:
    """The report's pages and the commands that fit this outcome."""
    pages = []
    if outcome.report:
        pages.append(str(_relative_path(outcome.report)))
        card = Path(outcome.report).with_name("README.md")
        if card.is_file():  # none by older runs
            pages.append(str(_relative_path(str(card))))
    commands = []
    if outcome.waiting:
        commands += [f"evertune {move} {recipe} --version {outcome.version}" for move in ("approve", "reject")]
    commands.append(f"evertune history {recipe}")
    if outcome.rows["refused"]:
        commands.append(f"evertune quarantine {recipe}")
    return [*_label_lines("report", pages), *_label_lines("next", commands)]


def _label_lines(label: str, texts: list[str]) -> list[str]:
    return [f"{label if index == 0 else '':<10}{text}" for index, text in enumerate(texts)]


def _relative_path(path: str) -> Path:
    """A path as it is typed in the working folder."""
    return Path(path).relative_to(Path.cwd()) if Path(path).is_relative_to(Path.cwd()) else Path(path)


def _training_lines(outcome: "Outcome") -> list[list[str]]:
    """The rows that came, what contract and splits made of them, and the training; empty where nothing was done."""
    if outcome.decision == "unchanged":
        return []
    rows = outcome.rows
    training = outcome.training
    split_rows = outcome.snapshot["rows"]
    lines = [["rows", f"{rows['new']:,} fresh, {rows['accepted']:,} accepted, {rows['refused']:,} refused"]]
    reasons = sorted(rows["reasons"].items(), key=lambda item: -item[1])
    lines += [["", f"{count:>5,}  {reason}"] for reason, count in reasons]
    if excluded := split_rows["excluded"]:
        total = sum(split_rows.values())
        lines.append(["excluded", f"{excluded:,} of {total:,} rows, linked to both train and test rows"])
    steps = f"{training['epochs']:.1f} epochs, {training['steps']:,} steps in {training['seconds']:.0f} s"
    return [*lines, ["training", f"{steps}, loss {training['loss']:.3f}"]]


def _score_lines(outcome: "Outcome") -> list[list[str]]:
    """The first metrics on the test rows, and without those that leak."""
    lines = [["test", _format_metrics(outcome.metrics.get("test", {}))]]
    if outcome.leaked:
        clean_metrics = _format_metrics(outcome.metrics.get("test_clean", {})) or "no rows"
        leaked = f"{outcome.leaked:,} test rows are copies or near-duplicates of train rows"
        lines.append(["", f"{leaked}; without them: {clean_metrics}"])
    return lines


def _format_metrics(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {format_metric(value)}" for name, value in list(values.items())[:4])
