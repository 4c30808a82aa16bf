"""`evertune run`: the retrain flow, here and now."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import COLOURS, console, follow, number, table

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
    from evertune.config import load
    from evertune.records import plain
    from tasks.notify import failures

    screen = console()
    follow(screen)
    with failures(recipe, overrides, "retrain"):
        loaded = load(recipe, overrides)
        outcome = None if force else _nothing_to_do(loaded)
        if outcome is None:
            outcome = _flow(loaded, force, bool(ctx.obj["debug"]))
    if as_json:
        show_json(plain(outcome))
    summary(screen, outcome, recipe)


def _nothing_to_do(recipe: "Recipe") -> "Outcome | None":
    """Decided from fingerprints, before Prefect or torch are imported; recorded in the ledger."""
    from evertune.data.sources import read as sources
    from evertune.registry.decisions import ledger
    from evertune.registry.tracking import unfinished
    from evertune.registry.versions import versions as models
    from evertune.runs import up_to_date as conclusion
    from evertune.runtime.home import home_of

    home = home_of(recipe)
    if ledger.open_intent(home) is not None:  # a process died while it moved the champion
        models.repair(home, recipe.registered_name)
    same = conclusion.before_start(recipe, home, sources.fingerprints)
    if same is None:
        return None
    if unfinished.left(home):  # of a forced run, a monitor or a backtest that was killed, or that is at work
        unfinished.close(home, recipe.name)
    return ledger.unchanged(home, same)


def _flow(recipe: "Recipe", force: bool, debug: bool) -> "Outcome":
    from evertune.cli.server.prefect_settings import quiet_prefect
    from evertune.data import admission
    from evertune.registry.tracking import store

    store.reach()  # before minutes of work
    admission.prepare()  # its process imports while this one does
    with quiet_prefect(debug, ("torch", "transformers")):
        from flows.retrain import retrain

        outcome: Outcome = retrain(recipe, force=force)
        return outcome


def summary(screen: Any, outcome: "Outcome", recipe: str) -> None:
    """The short table at the end, and below it what can be copied."""
    from rich.markup import escape

    lines = [*_came(outcome), *_scored(outcome)]
    champion = f"champion is version {outcome.champion_version}" if outcome.champion_version else "no champion yet"
    lines.append(["model", f"{outcome.model}, version {outcome.version}; {champion}"])
    colour = COLOURS[outcome.decision]
    screen.print(f"\n[bold {colour}]{outcome.decision}[/bold {colour}]  {escape(outcome.reason)}", markup=True)
    table(screen, ["", ""], lines)
    after = [f"look at   {_from_here(outcome.report)}"] if outcome.report else []
    if outcome.report and (card := Path(outcome.report).with_name("README.md")).is_file():  # none by older runs
        after.append(f"          {_from_here(str(card))}")
    if outcome.waiting:
        after += [f"          evertune {move} {recipe} --version {outcome.version}" for move in ("approve", "reject")]
    after.append(f"          evertune history {recipe}")
    if outcome.rows["refused"]:
        after.append(f"          evertune quarantine {recipe}")
    for line in after:
        screen.print(line, markup=False)


def _from_here(path: str) -> Path:
    """A path as it is typed in the working folder."""
    return Path(path).relative_to(Path.cwd()) if Path(path).is_relative_to(Path.cwd()) else Path(path)


def _came(outcome: "Outcome") -> list[list[str]]:
    """What came, what the contract and the splits made of it, and the training; nothing where nothing was done."""
    rows, done, kept = outcome.rows, outcome.training, outcome.snapshot["rows"]
    if outcome.decision == "unchanged":
        return []
    lines = [["rows", f"{rows['new']:,} fresh, {rows['accepted']:,} accepted, {rows['refused']:,} refused"]]
    reasons = sorted(rows["reasons"].items(), key=lambda item: -item[1])
    lines += [["", f"{count:>5,}  {reason}"] for reason, count in reasons]
    if left_out := kept["excluded"]:
        lines.append(["left out", f"{left_out:,} of {sum(kept.values()):,} rows, which bridge train and test"])
    steps = f"{done['epochs']:.1f} epochs, {done['steps']:,} steps in {done['seconds']:.0f} s"
    return [*lines, ["training", f"{steps}, loss {done['loss']:.3f}"]]


def _scored(outcome: "Outcome") -> list[list[str]]:
    """The first metrics on the test rows, and without those that leak."""
    lines = [["test", _metrics(outcome.metrics.get("test", {}))]]
    if outcome.leaked:
        found = _metrics(outcome.metrics.get("test_clean", {})) or "no rows"
        lines.append(["", f"{outcome.leaked:,} test rows stand in or near train rows; without them: {found}"])
    return lines


def _metrics(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in list(values.items())[:4])
