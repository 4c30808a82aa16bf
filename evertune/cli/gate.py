"""`evertune gate try`: what would another gate have done? Over the scores that a backtest kept, without any model."""

import click

from evertune.cli import common
from evertune.cli.backtest import show_summaries
from evertune.cli.terminal import make_console


@click.group()
def gate() -> None:
    """Try another gate on a kept backtest, in seconds."""


@gate.command("try")
@common.recipe
@common.overrides
@click.option(
    "--gates", default="", help="Further gates: rules and settings, separated by commas: expected,caution=12,proof."
)
@common.as_json
def try_gate(recipe: str, overrides: tuple[str, ...], gates: str, as_json: bool) -> None:
    """Replay the newest backtest of RECIPE with its gate as it is now, changed by --set.

    The models are those that `evertune backtest` trained; only the gate's decisions are made again.
    """
    from evertune.backtesting.trial import try_gates
    from evertune.config import load_recipe
    from evertune.records import to_plain

    trial = try_gates(load_recipe(recipe, overrides, for_data=False), gates)
    if as_json:
        common.show_json(to_plain(trial))
        return
    screen = make_console()
    show_summaries(screen, trial.summaries, trial.metric)
    screen.print(f"recommended  {trial.sentence}", markup=False)
    screen.print(f"kept scores  {trial.folder}", markup=False)
