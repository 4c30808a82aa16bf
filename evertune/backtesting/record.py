"""A backtest as commands and notebooks ask for it: fresh rows ingested, steps in MLflow, a report at the end."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.backtesting.backtest import Result, Step, parse_policies, run_backtest
from evertune.backtesting.policies import parse_gates
from evertune.config import Recipe
from evertune.records import to_plain
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking import store
from evertune.registry.tracking.backtests import Backtest
from evertune.report.pages import backtest as backtest_page
from evertune.runs.ingest import WAIT, ingest_sources
from evertune.runtime.context import open_context
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pandas as pd

MLFLOW_NAMES = str.maketrans(":=", "__")  # what a metric's name may not hold
ShowLine = Callable[[str], None]
# Logged for each policy.
SUMMED = ("metric", "below", "retrainings", "promotions", "wrong", "lost", "expected_wrong", "seconds")


@dataclass(frozen=True, kw_only=True)
class BacktestResult(Result):
    """A replayed history with its report and its MLflow run.

    Args:
        report: the HTML page.
        run_id: MLflow run of the backtest; each step is a child run.
    """

    report: Path
    run_id: str

    def summaries_frame(self) -> "pd.DataFrame":
        """Return one row a policy: mean metric, distance to the best policy, retrainings, promotions, seconds."""
        import pandas as pd

        return pd.DataFrame([asdict(summary) for summary in self.summaries]).set_index("policy")

    def steps_frame(self) -> "pd.DataFrame":
        """Return one row for each policy and window; the metrics of the scored window are columns of their own."""
        import pandas as pd

        rows = []
        for step in self.steps:
            facts = asdict(step)
            metrics = facts.pop("metrics")
            rows.append({**facts, **metrics})
        frame = pd.DataFrame(rows)
        return frame.assign(day=pd.to_datetime(frame["day"]))


def run_recorded_backtest(
    recipe: Recipe, every: str, policies: str, start: int | None, show_line: ShowLine, gates: str = ""
) -> BacktestResult:
    """Ingest fresh rows, replay the corpus, record each step in MLflow and write the report.

    A backtest that was killed goes on where it stopped.

    Args:
        every: `day`, `week`, `month`, or a number of days such as `10 days`.
        policies: names separated by commas, with a period in windows where one is wanted: `never,gated:4`.
        start: windows before the first model. Default: a third of them.
        show_line: called with a line for each step, those of an earlier call included.
        gates: rules and settings of the gate to try beside the policies: `expected,caution=12,proof`.
    Raises:
        ConfigError: the recipe maps no timestamp, or a policy or `every` is unknown.
        DataError: a source cannot be read, or there are too few rows or windows.
        RegistryError: MLflow does not answer, or another backtest or run of this recipe is at work.
        TrainingError: a training failed.
    """
    chosen_policies = [*parse_policies(policies), *parse_gates(gates)]
    for policy in chosen_policies:
        policy.apply_gate(recipe)  # its errors before anything is trained
    context = open_context(recipe)
    store.check_server()
    recorder = _Recorder(recipe, context.home, every, show_line)
    with context.home.lock("backtest", timeout=WAIT, noted=True), recorder.fail_on_error():
        snapshot = ingest_sources(context)
        result = run_backtest(
            context,
            snapshot,
            every,
            chosen_policies,
            recorder.begin_run,
            recorder.record_step,
            start=start,
        )
        page = backtest_page.write_backtest_page(Path(result.folder) / "report", to_plain(result), recipe.name)
        recorder.finish_run(result, page)
    return BacktestResult(**vars(result), report=page, run_id=recorder.run_id)


class _Recorder:
    """The backtest's run in MLflow, and its lines for a person."""

    def __init__(self, recipe: Recipe, home: Home, every: str, show_line: ShowLine) -> None:
        self._recipe = recipe
        self._home = home
        self._every = every
        self._show_line = show_line
        self.run_id = ""

    @contextlib.contextmanager
    def fail_on_error(self) -> Iterator[None]:
        """Mark the MLflow run as failed where the block raises; the next call goes on with it."""
        try:
            yield
        except BaseException:
            if self.run_id:
                tracking.mark_failed(self._home, self.run_id)
            raise

    def begin_run(self, folder: Path) -> str:
        self._run = Backtest(self._recipe, self._home, folder, self._every)
        self.run_id = self._run.run_id
        return self.run_id

    def record_step(self, step: Step) -> None:
        self._run.log_step(to_plain(step))
        value = _format_metric(step.metrics.get(self._recipe.metric))
        self._show_line(f"{step.day}  {step.policy:<10} {value}  {_describe_step(step)}")

    def finish_run(self, result: Result, page: Path) -> None:
        numbers: dict[str, float] = {}
        for summary in result.summaries:
            for name in SUMMED:
                value = getattr(summary, name)
                if value is not None:
                    numbers[f"{summary.policy}_{name}".translate(MLFLOW_NAMES)] = float(value)
        self._run.finish_run(numbers, result.sentence, page.parent)


def _describe_step(step: Step) -> str:
    cost = f"trained in {step.seconds:.0f} s" if step.retrained else ""
    if not step.rows:
        return "; ".join(["no rows in the next window", *([cost] if cost else [])])
    drift = [] if step.drift is None else [f"drift p = {step.drift:.3f}"]
    if not step.retrained:
        return "; ".join([*drift, "model kept"]) if drift else ""
    verdict = "promoted" if step.promoted else str(step.verdict)
    if step.before is not None:
        verdict += f" (the old model has {_format_metric(step.before)})"
    return "; ".join([*drift, f"{cost}, {verdict}"])


def _format_metric(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
