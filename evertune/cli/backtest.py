"""`evertune backtest`: what would each retraining policy have been worth on the rows that came so far?"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evertune.cli import options, show_json
from evertune.cli.ingest_first import WAIT, ingest_sources
from evertune.cli.terminal import follow_log, format_metric, make_console, print_table

if TYPE_CHECKING:
    from evertune.config import Recipe
    from evertune.runtime.home import Home


@click.command()
@options.recipe
@options.overrides
@click.option("--every", default="week", show_default=True, help="day, week, month, or a number of days: '10 days'.")
@click.option(
    "--policies",
    default="never,always,gated,drift",
    show_default=True,
    help="With a period in windows where one is wanted: gated:4.",
)
@click.option("--start", type=click.IntRange(min=1), help="Windows before the first model. Default: a third of them.")
@options.as_json
def backtest(
    recipe: str, overrides: tuple[str, ...], every: str, policies: str, start: int | None, as_json: bool
) -> None:
    """Replay the corpus by its timestamps under several policies and recommend one.

    Rows that the sources hold and no run has seen are taken in first. Killed and started again, it goes on.
    """
    from evertune.backtesting import backtest as backtests
    from evertune.config import load_recipe
    from evertune.records import to_plain
    from evertune.registry.tracking import store
    from evertune.report.pages import backtest as backtest_page
    from evertune.runtime.home import home_of

    chosen_policies = backtests.parse_policies(policies)
    loaded = load_recipe(recipe, overrides)
    screen = make_console()
    home = home_of(loaded)
    follow_log(screen)
    store.check_server()
    recorder = _BacktestRecorder(loaded, home, every, screen)
    with home.lock("backtest", timeout=WAIT, noted=True), recorder.fail_on_error():
        result = backtests.run_backtest(
            loaded,
            home,
            ingest_sources(loaded, home),
            every,
            chosen_policies,
            recorder.begin_run,
            recorder.record_step,
            start=start,
        )
        result_data = to_plain(result)
        page = backtest_page.write_backtest_page(Path(result.folder) / "report", result_data, loaded.name)
        recorder.finish_run(result_data, page)
    if as_json:
        show_json({**result_data, "report": str(page), "run_id": recorder.run_id})
    _show_result(screen, result_data, page)


class _BacktestRecorder:
    """The backtest's run in MLflow, and its lines on the screen."""

    def __init__(self, recipe: "Recipe", home: "Home", every: str, screen: Any) -> None:
        self._recipe = recipe
        self._home = home
        self._every = every
        self._screen = screen
        self.run_id = ""

    @contextlib.contextmanager
    def fail_on_error(self) -> Iterator[None]:
        """What was begun is FAILED where the block raises; started again, it goes on."""
        from evertune.registry.tracking import runs as tracking

        try:
            yield
        except BaseException:
            if self.run_id:
                tracking.mark_failed(self._home, self.run_id)
            raise

    def begin_run(self, folder: Path) -> str:
        from evertune.registry.tracking.backtests import Backtest

        self._run = Backtest(self._recipe, self._home, folder, self._every)
        self.run_id = self._run.run_id
        return self.run_id

    def record_step(self, step: Any) -> None:
        from evertune.records import to_plain

        self._run.log_step(to_plain(step))
        value = format_metric(step.metrics.get(self._recipe.metric))
        self._screen.print(f"{step.day}  {step.policy:<10} {value}  {_describe_step(step)}", markup=False)

    def finish_run(self, result: dict[str, Any], page: Path) -> None:
        names = ("metric", "below", "retrainings", "promotions", "wrong", "seconds")
        numbers = {
            f"{summary['policy']}_{name}".replace(":", "_"): float(summary[name])
            for summary in result["summaries"]
            for name in names
            if summary[name] is not None
        }
        self._run.finish_run(numbers, result["sentence"], page.parent)


def _describe_step(step: Any) -> str:
    if not step.rows:
        return "no rows came in the window after it" + (f"; trained in {step.seconds:.0f} s" if step.retrained else "")
    p = "" if step.drift is None else f"drift p = {step.drift:.3f}; "
    if not step.retrained:
        return f"{p}kept" if p else ""
    cost = f"trained in {step.seconds:.0f} s"
    if step.wrong:
        return f"{p}{cost}, promoted, wrongly: {format_metric(step.before)} before"
    return f"{p}{cost}, {'promoted' if step.promoted else step.verdict}"


def _show_result(screen: Any, result: dict[str, Any], page: Path) -> None:
    from rich.markup import escape

    rows = [
        [
            summary["policy"],
            format_metric(summary["metric"]),
            format_metric(summary["below"]),
            summary["retrainings"],
            summary["promotions"],
            summary["wrong"],
            f"{summary['seconds']:,.0f}",
        ]
        for summary in result["summaries"]
    ]
    heads = ["policy", f"mean {result['metric']}", "below the best", "retrainings", "promotions", "wrong", "s"]
    screen.print()
    print_table(screen, heads, rows, right=1)
    screen.print(f"[bold green]recommended[/bold green]  {escape(result['sentence'])}", markup=True)
    for reason, count in result["left_out"].items():
        screen.print(f"left out     {count:,} rows {reason}", markup=False)
    screen.print(f"look at      {page}", markup=False)
