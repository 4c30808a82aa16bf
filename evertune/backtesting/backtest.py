"""Replay a corpus by its timestamps: what would each retraining policy have done, and at what cost and gain?"""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evertune import training
from evertune.backtesting import verdict, windows
from evertune.backtesting.policies import TABLE, Policy, parse_policies
from evertune.backtesting.replay import Model, Replay
from evertune.backtesting.verdict import Step, Summary
from evertune.data import label_names
from evertune.data.corpus import transactions
from evertune.data.row_versions import list_roles
from evertune.errors import ConfigError, DataError
from evertune.evaluation import evaluate
from evertune.gate import decide
from evertune.objectives import load_objective
from evertune.records import Candidate, Snapshot, compute_digest, dump_settings
from evertune.runs import up_to_date
from evertune.runtime.context import RunContext
from evertune.runtime.files import append_json, read_json_lines
from evertune.statistics.paired_tests import find_kind
from evertune.tokenization import tokenize

__all__ = ["TABLE", "Policy", "Result", "Step", "Summary", "parse_policies", "run_backtest"]
STEPS = "steps.jsonl"
STEP_VERSION = 2  # raise it when the same history gives other steps, or they are kept in another form
ALARM = 0.05  # p-value of drift at which the policy `drift` retrains


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


@dataclass
class State:
    """The state of a policy after a window.

    Args:
        champion: the model in use.
        trained: window at whose end it trained last, whether or not the model was promoted.
        met: how often the champion was challenged with evidence.
    """

    champion: Model
    trained: int
    met: int = 0


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
    settings = dump_settings(context.recipe, *(name for name in up_to_date.OUTSIDE if name != "contract"))
    names = [policy.name for policy in policies]
    step_versions = (STEP_VERSION, training.STEP_VERSION, evaluate.STEP_VERSION)
    # The number of future rows tells which rows are replayed: a day later, more of them are in the past.
    key = compute_digest(tokens.fingerprint, every, cut.future, names, settings, start, step_versions)
    folder = context.home.model / "backtests" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    replay = Replay(context.recipe, context.home, rows, tokens, cut, folder, begin_run(folder))
    first = _find_first_window(replay, start or math.ceil(len(cut) / 3))
    steps = list(_report_each(_replay_windows(replay, policies, first), on_step))
    objective = context.objective
    metric = context.recipe.metric
    summaries = verdict.summarize_policies(steps, metric, metric in objective.LOWER_IS_BETTER)
    left_out = {"without a timestamp": cut.undated, "in the future": cut.future}
    return Result(
        folder=str(folder),
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


def _replay_windows(replay: Replay, policies: Sequence[Policy], first: int) -> Iterator[Step]:
    """Yield each policy's step, window by window, so that policies that train the same model share it."""
    finished = _load_finished(replay.folder, len(policies), len(policies) * (len(replay.windows) - first))
    states: dict[str, State] = {}
    for window in range(first, len(replay.windows)):
        has_new_step = False
        for policy in policies:
            if (policy.name, window) in finished:
                step, states[policy.name] = finished[policy.name, window]
            else:
                step = _take_step(replay, policy, states, window, first)
                has_new_step = True
                _append_step(replay.folder, step, states[policy.name])
            yield step
        if has_new_step:  # before that, later windows of an earlier call still use these models
            _remove_unused(replay.folder, [state.champion for state in states.values()])


def _take_step(replay: Replay, policy: Policy, states: dict[str, State], window: int, first: int) -> Step:
    """Return what the policy does at the end of a window, and the result in the next window."""
    state = states.get(policy.name)
    if state is None:
        candidate = replay.train_model(window, None)
        states[policy.name] = State(Model(Path(candidate.bundle), window), window)
        return _describe_step(
            replay, policy, states[policy.name], window, retrained=True, promoted=True, seconds=candidate.seconds
        )
    new_rows = len(replay.rows_between(state.trained, window))  # without any, a run ends as `unchanged`
    is_due = policy.retrains != "never" and (window - first) % policy.period == 0 and new_rows > 0
    drift_p = None
    if is_due and policy.retrains == "drift":
        drift_p = replay.measure_drift(state.champion, max(state.champion.window, window - policy.period), window)
    has_no_drift = policy.retrains == "drift" and (drift_p is None or drift_p > ALARM)
    if not is_due or has_no_drift or replay.explain_missing_rows(window, state.champion):
        return _describe_step(replay, policy, state, window, drift=drift_p)
    candidate = replay.train_model(window, state.champion)
    state.trained = window
    return _challenge_champion(replay, policy, state, candidate, window, drift_p)


def _challenge_champion(
    replay: Replay, policy: Policy, state: State, candidate: Candidate, window: int, drift_p: float | None
) -> Step:
    old_champion = state.champion
    decision = None
    if policy.gated:
        name = f"{policy.name}-{window}".replace(":", "-")
        decision = replay.judge_candidate(candidate, old_champion, window, state.met + 1, name, policy.superior_on)
        state.met += decide.used_error_budget(decision.evidence)
    promoted = decision is None or decision.verdict == "promoted" or (policy.lenient and decision.verdict == "held")
    if promoted:
        state.champion = Model(Path(candidate.bundle), window)
        state.met = 0
    gate_facts: dict[str, Any] = {"verdict": decision.verdict, "reason": decision.reason} if decision else {}
    return _describe_step(
        replay,
        policy,
        state,
        window,
        old_champion if promoted else None,
        retrained=True,
        promoted=promoted,
        seconds=candidate.seconds,
        drift=drift_p,
        **gate_facts,
    )


def _describe_step(
    replay: Replay, policy: Policy, state: State, window: int, replaced: Model | None = None, **facts: Any
) -> Step:
    metric = replay.recipe.metric
    scores = replay.score_window(state.champion.folder, window + 1)
    before = replay.score_window(replaced.folder, window + 1).get(metric) if replaced is not None else None
    value = scores.get(metric)
    is_wrong = False
    if before is not None and value is not None:
        falls = metric in load_objective(replay.recipe.objective.type).LOWER_IS_BETTER
        is_wrong = value > before if falls else value < before
    return Step(
        policy=policy.name,
        window=window,
        day=replay.windows.starts[window].isoformat(),
        metrics=scores,
        before=before,
        rows=len(replay.rows_between(window, window + 1)),
        wrong=is_wrong,
        model=state.champion.window,
        **facts,
    )


def _load_finished(folder: Path, policies: int, all_steps: int) -> dict[tuple[str, int], tuple[Step, State]]:
    """Return the finished steps by policy and window; none if further steps need models that are gone.

    `evertune forget` removes those models, even if it changes no row of the corpus.
    """
    finished = _read_steps(folder)
    if len(finished) < all_steps and not all(state.champion.folder.is_dir() for _, state in finished[-policies:]):
        (folder / STEPS).unlink()
        return {}
    return {(step.policy, step.window): (step, state) for step, state in finished}


def _read_steps(folder: Path) -> list[tuple[Step, State]]:
    """Return the finished steps, each with its policy's state; a line that a crash cut off is skipped."""
    steps = []
    for facts in read_json_lines(folder / STEPS):
        champion = Model(folder / facts["champion"], facts["window"])
        steps.append((Step(**facts["step"]), State(champion, facts["trained"], facts["met"])))
    return steps


def _append_step(folder: Path, step: Step, state: State) -> None:
    position = {"champion": str(state.champion.folder.relative_to(folder)), "window": state.champion.window}
    append_json(folder / STEPS, {"step": asdict(step), **position, "trained": state.trained, "met": state.met})


def _remove_unused(folder: Path, champions: Sequence[Model]) -> None:
    """Remove the models that no policy uses any more: a year of weeks would be gigabytes."""
    used = {model.folder.parent for model in champions}
    for path in (folder / "models").iterdir():
        if path not in used:
            shutil.rmtree(path, ignore_errors=True)
