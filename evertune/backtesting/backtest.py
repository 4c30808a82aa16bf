"""Replay a corpus by its timestamps: what would each retraining policy have done, and at what cost and gain?"""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from evertune import training
from evertune.backtesting import verdict, windows
from evertune.backtesting.kept_scores import list_models, with_settings
from evertune.backtesting.kept_source import describe_settings
from evertune.backtesting.policies import TABLE, Policy, parse_policies
from evertune.backtesting.replay import MODELS, SCORES, Replay
from evertune.backtesting.simulate import measure_outcomes, simulate_policies
from evertune.backtesting.verdict import Step, Summary
from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.corpus import transactions
from evertune.data.row_versions import list_roles
from evertune.errors import ConfigError, DataError
from evertune.evaluation import evaluate
from evertune.objectives import load_objective
from evertune.records import Snapshot, compute_digest
from evertune.runtime.context import RunContext
from evertune.statistics.paired_tests import find_kind
from evertune.tokenization import tokenize

__all__ = ["TABLE", "Policy", "Result", "Step", "Summary", "parse_policies", "run_backtest"]
STEP_VERSION = 3  # raise it when the same history gives other scores, or they are kept in another form


@dataclass(frozen=True)
class Result:
    """A replayed history.

    Args:
        folder: of this backtest.
        every: length of a window, as given.
        metric: the metric that policies are compared by.
        first: number of the window at whose end the first model was trained.
        windows: first day of each window.
        steps: of all policies, window by window.
        summaries: one for each policy.
        recommended: name of the recommended policy.
        sentence: the recommendation with its evidence.
        left_out: reason -> number of rows that belong to no window.
    """

    folder: str
    every: str
    metric: str
    first: int
    windows: tuple[str, ...]
    steps: tuple[Step, ...]
    summaries: tuple[Summary, ...]
    recommended: str
    sentence: str
    left_out: dict[str, int] = field(default_factory=dict)


def run_backtest(
    context: RunContext,
    snapshot: Snapshot,
    every: str,
    policies: Sequence[Policy],
    begin_run: Callable[[Path], str],
    on_step: Callable[[Step], None],
    *,
    start: int | None = None,
) -> Result:
    """Replay the corpus window by window under all policies; an interrupted backtest is resumed.

    Args:
        context: the recipe and the home of its model.
        snapshot: of the corpus, with today's label names.
        every: length of a window, see `windows.cut_history`.
        policies: to compare.
        begin_run: called with the folder of this backtest; returns the id of its run.
        on_step: called with each step, including those of an earlier call.
        start: window at whose end the first model is trained. Default: after a third of the windows, or as soon as
            there are enough rows.
    Raises:
        ConfigError: the recipe maps no timestamp, or `every` is not a valid length.
        DataError: too few windows, or too few rows before the last one.
        EvertuneError: a training fails.
    """
    if "timestamp" not in list_roles(context.recipe):
        raise ConfigError("data.columns: a backtest needs a timestamp; map one, such as `timestamp: created_at`")
    rows = label_names.rename_rows(transactions.read_rows(context.home, snapshot.version), context.recipe)
    cut = windows.cut_history(rows["timestamp"], every, datetime.now(UTC))
    tokens = tokenize.tokenize_rows(context, snapshot, rows)
    # The number of future rows tells which rows are replayed: a day later, more of them are in the past.
    key = compute_digest(tokens.fingerprint, every, cut.future, start, *fingerprint_settings(context.recipe))
    folder = context.home.model / "backtests" / key[:16]
    replayed = replays_folder(folder, context.recipe, policies)
    replayed.mkdir(parents=True, exist_ok=True)
    replay = Replay(context.recipe, context.home, rows, tokens, cut, folder, begin_run(replayed))
    first = _find_first_window(replay, start or math.ceil(len(cut) / 3))
    facts = {"name": context.recipe.name, "every": every, "first": first, "key": key}
    with_settings(replay.history, **facts, settings=describe_settings(context.recipe)).save(folder / SCORES)
    steps = list(_report_each(simulate_policies(replay, context.recipe, policies, first), on_step))
    steps = measure_outcomes(
        steps, context.objective, replay.history, list_models(folder / SCORES), context.recipe.metric
    )
    _remove_bundles(folder)
    objective = context.objective
    metric = context.recipe.metric
    summaries = verdict.summarize_policies(
        steps, metric, metric in objective.LOWER_IS_BETTER, context.recipe.evaluation.gate.caution
    )
    left_out = {"without a timestamp": cut.undated, "in the future": cut.future}
    return Result(
        folder=str(replayed),
        every=every,
        metric=metric,
        first=first,
        windows=tuple(day.isoformat() for day in cut.starts),
        steps=tuple(steps),
        summaries=tuple(summaries),
        recommended=verdict.recommend_policy(summaries).policy,
        sentence=verdict.explain_choice(summaries, metric, find_kind(metric, objective.ABSOLUTE_METRICS)),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _report_each(steps: Iterable[Step], on_step: Callable[[Step], None]) -> Iterator[Step]:
    for step in steps:
        on_step(step)
        yield step


def _find_first_window(replay: Replay, earliest: int) -> int:
    """Return the first window, not before `earliest`, at whose end there are enough rows to train and to test on."""
    objective = load_objective(replay.recipe.objective.type)
    min_rows = replay.recipe.evaluation.gate.min_rows
    for window in range(earliest, len(replay.windows)):
        rows = replay.rows_until(window)
        split = rows["split"].to_pylist()
        train = rows.filter([name == "train" for name in split])[objective.TARGET].to_pylist()
        is_trainable = len(set(objective.list_labels(train))) >= 2 if objective.LABELED else len(train) > 0
        if split.count("test") >= min_rows and is_trainable:
            return window
    needed_rows = "train rows of two labels" if objective.LABELED else "a train row"
    raise DataError(
        f"{len(replay.windows)} windows, and before the last one none from number {earliest} on has {min_rows} test "
        f"rows (evaluation.gate.min_rows) and {needed_rows} before its end; set shorter windows with --every, an "
        "earlier --start, or add rows"
    )


def fingerprint_settings(recipe: Recipe) -> tuple[object, ...]:
    """Return what a backtest's folder depends on besides its rows: another gate finds the same models."""
    return (describe_settings(recipe), STEP_VERSION, training.STEP_VERSION, evaluate.STEP_VERSION)


def replays_folder(folder: Path, recipe: Recipe, policies: Sequence[Policy]) -> Path:
    """Return the folder of the report and the MLflow run of these policies, with this gate."""
    names = [policy.name for policy in policies]
    return folder / "replays" / compute_digest(names, recipe.evaluation)[:16]


def _remove_bundles(folder: Path) -> None:
    """Remove the models once all is scored: a year of weeks would be gigabytes. Their scores stay."""
    shutil.rmtree(folder / MODELS, ignore_errors=True)
