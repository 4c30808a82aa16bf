"""Replay a corpus by its timestamps: what would each retraining policy have done, and what would it have been worth?"""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evertune import training
from evertune.backtest import verdict, windows
from evertune.backtest.policies import TABLE, Policy, parse
from evertune.backtest.replay import Model, Replay
from evertune.backtest.verdict import Step, Summary
from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.corpus import transactions as corpus
from evertune.data.row_versions import roles
from evertune.errors import ConfigError, DataError
from evertune.evaluation import evaluate as evaluation
from evertune.gate import decide as gate
from evertune.objectives import module, no_shares
from evertune.records import Candidate, Snapshot, digest, settled
from evertune.runs import up_to_date as conclusion
from evertune.runtime.files import append_json, read_json_lines
from evertune.runtime.home import Home
from evertune.statistics.paired_tests import kind_of
from evertune.tokenization import tokenize as tokenization

__all__ = ["TABLE", "Policy", "Result", "Step", "Summary", "parse", "run"]
STEPS = "steps.jsonl"
STEP_VERSION = 2  # raise it when the same history gives other steps, or they are kept in another form
ALARM = 0.05  # p-value of drift at which the policy `drift` retrains


@dataclass(frozen=True)
class Result:
    """A replayed history.

    Args:
        first: the window at whose end the first model was trained; windows: first day of each.
        left_out: rows that stand in no window, by reason.
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
    """Where a policy stands.

    Args:
        champion: the model in use; met: how often it was challenged with evidence.
        trained: window at whose end it trained last, whatever became of the model.
    """

    champion: Model
    trained: int
    met: int = 0


def run(
    recipe: Recipe, home: Home, snapshot: Snapshot, every: str, policies: Sequence[Policy],
    begun: Callable[[Path], str], told: Callable[[Step], None], *, start: int | None = None,
) -> Result:  # fmt: skip
    """Replay the corpus, window by window, all policies side by side; what an earlier call has done is not done again.

    Args:
        snapshot: of the corpus, under the names of today.
        every: see `windows.cut`.
        begun: is given the folder of this backtest, and names its run.
        told: hears of each step, those of an earlier call too.
        start: window at whose end the first model is trained. Default: a third of them, or as many as a model takes.
    Raises:
        ConfigError: the recipe names no timestamp, or `every` is no unit.
        DataError: too few windows, or too few rows before the last.
        EvertuneError: a training fails.
    """
    if "timestamp" not in roles(recipe):
        raise ConfigError("data.columns: a backtest needs a timestamp; map one, such as `timestamp: created_at`")
    rows = relabel.rows(corpus.rows(home, snapshot.version), recipe)
    cut = windows.cut(rows["timestamp"], every, datetime.now(UTC))
    tokens = tokenization.tokenize(recipe, home, snapshot, rows)
    settings = settled(recipe, *(name for name in conclusion.OUTSIDE if name != "contract"))
    names = [one.name for one in policies]
    steps_of = (STEP_VERSION, training.STEP_VERSION, evaluation.STEP_VERSION)
    # Of these rows, the number of those still to come says which: a day later other windows may be known.
    key = digest(tokens.fingerprint, every, cut.future, names, settings, start, steps_of)
    folder = home.model / "backtests" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    replay = Replay(recipe, home, rows, tokens, cut, folder, begun(folder))
    first = _first(replay, start or math.ceil(len(cut) / 3))
    steps = list(_telling(_steps(replay, policies, first), told))
    objective = module(recipe.objective.type)
    metric, kind = recipe.metric, kind_of(recipe.metric, no_shares(objective))
    found = verdict.summaries(steps, metric, metric in objective.LOWER_IS_BETTER)
    return Result(
        str(folder), every, metric, first, tuple(day.isoformat() for day in cut.starts), tuple(steps),
        tuple(found), verdict.recommended(found).policy, verdict.sentence(found, metric, kind),
        {name: count for name, count in (("without a timestamp", cut.undated), ("in the future", cut.future)) if count},
    )  # fmt: skip


def _telling(steps: Iterable[Step], told: Callable[[Step], None]) -> Iterator[Step]:
    for step in steps:
        told(step)
        yield step


def _first(replay: Replay, least_windows: int) -> int:
    """The first window, not before this one, at whose end there are rows enough to train and to test on."""
    objective, least = module(replay.recipe.objective.type), replay.recipe.evaluation.gate.min_rows
    for window in range(least_windows, len(replay.windows)):
        rows = replay.known(window)
        split = rows["split"].to_pylist()
        train = rows.filter([one == "train" for one in split])[objective.TARGET].to_pylist()
        taught = len(set(objective.label_values(train))) >= 2 if objective.LABELED else len(train) > 0
        if split.count("test") >= least and taught:
            return window
    some = "train rows of two labels" if objective.LABELED else "a train row"
    raise DataError(
        f"{len(replay.windows)} windows, and none from number {least_windows} on but the last has {least} test rows "
        f"(evaluation.gate.min_rows) and {some} before its end; take shorter windows with --every, an "
        "earlier --start, or add rows"
    )


def _steps(replay: Replay, policies: Sequence[Policy], first: int) -> Iterator[Step]:
    """Window by window, so that policies that train the same share it."""
    done = _done(replay.folder, len(policies), len(policies) * (len(replay.windows) - first))
    states: dict[str, State] = {}
    for window in range(first, len(replay.windows)):
        anew = False
        for policy in policies:
            if (policy.name, window) in done:
                step, states[policy.name] = done[policy.name, window]
            else:
                step, anew = _taken(replay, policy, states, window, first), True
                _keep(replay.folder, step, states[policy.name])
            yield step
        if anew:  # else the models of windows that an earlier call has done are still in use
            _clean(replay.folder, [state.champion for state in states.values()])


def _taken(replay: Replay, policy: Policy, states: dict[str, State], window: int, first: int) -> Step:
    """What the policy does at a window's end, and what comes of it in the next."""
    state = states.get(policy.name)
    if state is None:
        made = replay.train(window, None)
        states[policy.name] = State(Model(Path(made.bundle), window), window)
        return _told(replay, policy, states[policy.name], window, retrained=True, promoted=True, seconds=made.seconds)
    new = len(replay.came(state.trained, window))  # without any, a run says `unchanged`
    due = policy.retrains != "never" and (window - first) % policy.period == 0 and new > 0
    looks = due and policy.retrains == "drift"
    found = replay.drift(state.champion, max(state.champion.window, window - policy.period), window) if looks else None
    calm = policy.retrains == "drift" and (found is None or found > ALARM)
    if not due or calm or replay.lacking(window, state.champion):
        return _told(replay, policy, state, window, drift=found)
    made, state.trained = replay.train(window, state.champion), window
    return _challenged(replay, policy, state, made, window, found)


def _challenged(
    replay: Replay, policy: Policy, state: State, made: Candidate, window: int, found: float | None
) -> Step:
    before, said = state.champion, None
    if policy.gated:
        name = f"{policy.name}-{window}".replace(":", "-")
        said = replay.judge(made, before, window, state.met + 1, name, policy.superior_on)
        state.met += gate.spent(said.evidence)
    promoted = said is None or said.verdict == "promoted" or (policy.lenient and said.verdict == "held")
    if promoted:
        state.champion, state.met = Model(Path(made.bundle), window), 0
    more: dict[str, Any] = {"verdict": said.verdict, "reason": said.reason} if said else {}
    return _told(
        replay, policy, state, window, before if promoted else None,
        retrained=True, promoted=promoted, seconds=made.seconds, drift=found, **more,
    )  # fmt: skip


def _told(
    replay: Replay, policy: Policy, state: State, window: int, replaced: Model | None = None, **facts: Any
) -> Step:
    metric = replay.recipe.metric
    now = replay.scored(state.champion.folder, window + 1)
    then = replay.scored(replaced.folder, window + 1).get(metric) if replaced is not None else None
    wrong = False
    if then is not None and (value := now.get(metric)) is not None:
        falls = metric in module(replay.recipe.objective.type).LOWER_IS_BETTER
        wrong = value > then if falls else value < then
    return Step(
        policy=policy.name, window=window, day=replay.windows.starts[window].isoformat(), metrics=now, before=then,
        rows=len(replay.came(window, window + 1)), wrong=wrong, model=state.champion.window, **facts,
    )  # fmt: skip


def _done(folder: Path, policies: int, all_steps: int) -> dict[tuple[str, int], tuple[Step, State]]:
    """The steps that are done, by policy and window; none where others are to come and the models in use are gone.

    `evertune forget` removes them, though it may change no row of the corpus.
    """
    kept = _kept(folder)
    if len(kept) < all_steps and not all(state.champion.folder.is_dir() for _, state in kept[-policies:]):
        (folder / STEPS).unlink()
        return {}
    return {(step.policy, step.window): (step, state) for step, state in kept}


def _kept(folder: Path) -> list[tuple[Step, State]]:
    """The steps that are done, each with where it left its policy; a line that a crash cut short is none."""
    found = []
    for facts in read_json_lines(folder / STEPS):
        champion = Model(folder / facts["champion"], facts["window"])
        found.append((Step(**facts["step"]), State(champion, facts["trained"], facts["met"])))
    return found


def _keep(folder: Path, step: Step, state: State) -> None:
    place = {"champion": str(state.champion.folder.relative_to(folder)), "window": state.champion.window}
    append_json(folder / STEPS, {"step": asdict(step), **place, "trained": state.trained, "met": state.met})


def _clean(folder: Path, champions: Sequence[Model]) -> None:
    """Remove the models that no policy uses any more: a year of weeks would be gigabytes."""
    used = {model.folder.parent for model in champions}
    for path in (folder / "models").iterdir():
        if path not in used:
            shutil.rmtree(path, ignore_errors=True)
