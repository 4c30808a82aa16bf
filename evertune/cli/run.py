"""`evertune run`: the retrain flow, here and now."""

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

    loaded = load(recipe, overrides)
    screen = console()
    follow(screen)
    outcome = None if force else _nothing_to_do(loaded)
    if outcome is None:
        outcome = _flow(loaded, force, bool(ctx.obj["debug"]))
    if as_json:
        show_json(plain(outcome))
    summary(screen, outcome, recipe)


def _nothing_to_do(recipe: "Recipe") -> "Outcome | None":
    """Decided from fingerprints, before Prefect or torch are imported; recorded in the ledger."""
    from evertune import conclusion, sources
    from evertune.home import home_of
    from evertune.registry import ledger, models

    home = home_of(recipe)
    if ledger.open_intent(home) is not None:  # a process died while it moved the champion
        models.repair(home, recipe.registered_name)
    same = conclusion.before_start(recipe, home, sources.fingerprints)
    return None if same is None else ledger.unchanged(home, same)


def _flow(recipe: "Recipe", force: bool, debug: bool) -> "Outcome":
    from evertune.cli.prefect_settings import quiet_prefect
    from evertune.registry import store

    store.reach()  # before minutes of work
    with quiet_prefect(debug):
        from flows.retrain import retrain

        outcome: Outcome = retrain(recipe, force=force)
        return outcome


def summary(screen: Any, outcome: "Outcome", recipe: str) -> None:
    """The short table at the end."""
    from rich.markup import escape

    rows = outcome.rows
    lines: list[list[Any]] = []
    if outcome.decision != "unchanged":
        lines.append(["rows", f"{rows['new']:,} fresh, {rows['accepted']:,} accepted, {rows['refused']:,} refused"])
        lines += [
            ["", f"{count:>5,}  {reason}"]
            for reason, count in sorted(rows["reasons"].items(), key=lambda item: -item[1])
        ]
        done = outcome.training
        lines.append(
            [
                "training",
                f"{done['epochs']:.1f} epochs, {done['steps']:,} steps in {done['seconds']:.0f} s, "
                f"loss {done['loss']:.3f}",
            ]
        )
    test = outcome.metrics.get("test", {})
    lines.append(["test", ", ".join(f"{name} {number(value)}" for name, value in list(test.items())[:4])])
    champion = f"champion is version {outcome.champion_version}" if outcome.champion_version else "no champion yet"
    lines.append(["model", f"{outcome.model}, version {outcome.version}; {champion}"])
    if outcome.report:
        lines.append(["look at", outcome.report])
    lines.append(["", f"evertune history {recipe}"])
    if rows["refused"]:
        lines.append(["", f"evertune quarantine {recipe}"])
    colour = COLOURS[outcome.decision]
    screen.print(f"\n[bold {colour}]{outcome.decision}[/bold {colour}]  {escape(outcome.reason)}", markup=True)
    table(screen, ["", ""], lines)
