"""`evertune backtest`: what would each retraining policy have been worth on the rows that came so far?"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.ingest_first import WAIT, taken_in
from evertune.cli.terminal import console, follow, number, table

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.runtime.home import Home


@click.command()
@options.recipe
@options.overrides
@click.option("--every", default="week", show_default=True, help="day, week, month, or a number of days: '10 days'.")
@click.option(
    "--policies", default="never,always,gated,drift", show_default=True,
    help="With a period in windows where one is wanted: gated:4.",
)  # fmt: skip
@click.option("--start", type=click.IntRange(min=1), help="Windows before the first model. Default: a third of them.")
@options.as_json
def backtest(
    recipe: str, overrides: tuple[str, ...], every: str, policies: str, start: int | None, as_json: bool
) -> None:
    """Replay the corpus by its timestamps under several policies and recommend one.

    Rows that the sources hold and no run has seen are taken in first. Killed and started again, it goes on.
    """
    from evertune.backtest import backtest as history
    from evertune.config import load
    from evertune.records import plain
    from evertune.registry.tracking import store
    from evertune.report.pages import backtest as pages
    from evertune.runtime.home import home_of

    wanted, loaded = history.parse(policies), load(recipe, overrides)
    screen, home = console(), home_of(loaded)
    follow(screen)
    store.reach()
    kept = _Kept(loaded, home, every, screen)
    with home.lock("backtest", timeout=WAIT, noted=True), kept.failing():
        result = history.run(
            loaded, home, taken_in(loaded, home), every, wanted, kept.begin, kept.step, start=start
        )  # fmt: skip
        found = plain(result)
        page = pages.page(Path(result.folder) / "report", found, loaded.name)
        kept.end(found, page)
    if as_json:
        show_json({**found, "report": str(page), "run_id": kept.run_id})
    _show(screen, found, page)


class _Kept:
    """The backtest's run in MLflow, and its lines on the screen."""

    def __init__(self, recipe: "Recipe", home: "Home", every: str, screen: Any) -> None:
        self._recipe, self._home, self._every, self._screen = recipe, home, every, screen
        self.run_id = ""

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """What was begun is FAILED where the block raises; started again, it goes on."""
        from evertune.registry.tracking import runs as tracking

        try:
            yield
        except BaseException:
            if self.run_id:
                tracking.fail(self._home, self.run_id)
            raise

    def begin(self, folder: Path) -> str:
        from evertune.registry.tracking.backtests import Backtest

        self._run = Backtest(self._recipe, self._home, folder, self._every)
        self.run_id = self._run.run_id
        return self.run_id

    def step(self, step: Any) -> None:
        from evertune.records import plain

        self._run.tell(plain(step))
        value = number(step.metrics.get(self._recipe.metric))
        self._screen.print(f"{step.day}  {step.policy:<10} {value}  {_done(step)}", markup=False)

    def end(self, found: dict[str, Any], page: Path) -> None:
        names = ("metric", "below", "retrainings", "promotions", "wrong", "seconds")
        numbers = {
            f"{one['policy']}_{name}".replace(":", "_"): float(one[name])
            for one in found["summaries"]
            for name in names
            if one[name] is not None
        }
        self._run.finish(numbers, found["sentence"], page.parent)


def _done(step: Any) -> str:
    if not step.rows:
        return "no rows came in the window after it" + (f"; trained in {step.seconds:.0f} s" if step.retrained else "")
    p = "" if step.drift is None else f"drift p = {step.drift:.3f}; "
    if not step.retrained:
        return f"{p}kept" if p else ""
    cost = f"trained in {step.seconds:.0f} s"
    if step.wrong:
        return f"{p}{cost}, promoted, wrongly: {number(step.before)} before"
    return f"{p}{cost}, {'promoted' if step.promoted else step.verdict}"


def _show(screen: Any, found: dict[str, Any], page: Path) -> None:
    from rich.markup import escape

    rows = [
        [one["policy"], number(one["metric"]), number(one["below"]), one["retrainings"], one["promotions"],
         one["wrong"], f"{one['seconds']:,.0f}"]
        for one in found["summaries"]
    ]  # fmt: skip
    heads = ["policy", f"mean {found['metric']}", "below the best", "retrainings", "promotions", "wrong", "s"]
    screen.print()
    table(screen, heads, rows, right=1)
    screen.print(f"[bold green]recommended[/bold green]  {escape(found['sentence'])}", markup=True)
    for why, count in found["left_out"].items():
        screen.print(f"left out     {count:,} rows {why}", markup=False)
    screen.print(f"look at      {page}", markup=False)
