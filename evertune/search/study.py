"""The trials of a search, in a journal that Optuna keeps: who asks for one, goes on with one, or tells how one ended.

Every process of a search has a study of its own over the one journal. A trial belongs to the process that holds its
lock, which dies with it: the next that asks for a trial goes on with the one that is left.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config.search import Searched
from evertune.errors import RegistryError
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import optuna

JOURNAL, NAME = "journal.log", "search"
WHY = "why"  # attribute of a trial that came to nothing
PARTS = 20  # of a training: trials are compared at the same part of theirs, however many steps it has
STARTUP = 6  # trials that are drawn at random before the sampler learns from them
PRUNED_AFTER = 4  # finished trials before the first can be pruned
ALIKE = 5  # trials that end for one reason, whatever their values, before no other values are thought to mend it
UNTOUCHED = PARTS // 5  # parts of a training in which it is not pruned


@dataclass(frozen=True)
class Trial:
    """One trial, as far as it is known.

    Args:
        state: `complete`, `pruned`, or `running`; why: it was pruned, where that was not for its metric.
        value: of the metric on the validation rows, the last known one of a pruned trial.
        values: what was tried, by path.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Any]
    seconds: float = 0.0
    why: str | None = None


@dataclass
class Taken:
    """A trial that this process works on, while it holds its lock."""

    number: int
    values: dict[str, Any]
    trial: "optuna.Trial" = field(repr=False)


class Study:
    """A search's trials.

    Args:
        home: whose folder of the model is the search's.
        falls: whether less of the metric is better.
        seed: decides what is tried, together with the trials that have ended.
    """

    def __init__(self, home: Home, fields: Sequence[Searched], falls: bool, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._home, self._fields, self.falls = home, fields, falls
        home.model.mkdir(parents=True, exist_ok=True)
        with home.lock("ask"):  # two that begin at once would both make it
            self._study = optuna.create_study(
                storage=_storage(home.model / JOURNAL), study_name=NAME, load_if_exists=True,
                direction="minimize" if falls else "maximize", sampler=_sampler(fields, seed),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNED_AFTER, n_warmup_steps=UNTOUCHED),
            )  # fmt: skip

    @contextlib.contextmanager
    def next(self, most: int, *, begin: bool = True) -> Iterator[Taken | None]:
        """A trial to work on while the block runs: one whose process died, else a new one, else None.

        Args:
            most: trials in all; begin: whether a new one may begin.
        """
        with contextlib.ExitStack() as held:
            with self._home.lock("ask"):
                trial = self._left(held) or (self._new(held, most) if begin else None)
            yield None if trial is None else Taken(trial.number, self._values(trial.params), trial)

    def _left(self, held: contextlib.ExitStack) -> "optuna.Trial | None":
        import optuna

        for one in self._running():
            with contextlib.suppress(RegistryError):  # its process lives
                held.enter_context(self.place(one.number).lock("trial", timeout=0))
                return self._suggested(optuna.Trial(self._study, one._trial_id))
        return None

    def _new(self, held: contextlib.ExitStack, most: int) -> "optuna.Trial | None":
        if len(self._study.get_trials(deepcopy=False)) >= most:
            return None
        trial = self._study.ask()
        held.enter_context(self.place(trial.number).lock("trial", timeout=0))
        return self._suggested(trial)

    def _suggested(self, trial: "optuna.Trial") -> "optuna.Trial":
        """The trial with a value for each field; one that was given before a crash stays."""
        for one in self._fields:
            if one.choices:
                trial.suggest_categorical(one.path, [json.dumps(choice) for choice in one.choices])
            elif one.whole:
                trial.suggest_int(one.path, int(one.low), int(one.high), step=int(one.step or 1), log=one.log)
            else:
                trial.suggest_float(one.path, one.low, one.high, step=one.step, log=one.log)
        return trial

    def place(self, number: int) -> Home:
        """A trial's own folder, and its locks: several trials of a model train at once."""
        return Home(self._home.root, f"{self._home.name}/trials/{number:04d}")

    def report(self, taken: Taken, value: float, share: float) -> None:
        """Tell the metric after a share of the training.

        Raises:
            optuna.TrialPruned: most others were better at this point.
        """
        import optuna

        known = self._study.get_trials(deepcopy=False)[taken.number].intermediate_values
        for part in range(max(known, default=0) + 1, math.floor(PARTS * share + 1e-6) + 1):
            taken.trial.report(value, part)
        if taken.trial.should_prune():
            raise optuna.TrialPruned

    def complete(self, taken: Taken, value: float) -> None:
        """The trial has come to its end."""
        self._study.tell(taken.number, value)

    def prune(self, taken: Taken, why: str | None = None) -> None:
        """The trial has come to nothing; the sampler takes it for one of the worst, if there was no metric."""
        import optuna

        if why is not None:
            taken.trial.set_user_attr(WHY, why)
        self._study.tell(taken.number, state=optuna.trial.TrialState.PRUNED)

    def alike(self, why: str) -> bool:
        """Whether enough trials have ended, all for this one reason, with several values of each field."""
        ended = [one for one in self.trials() if one.state != "running"]
        tried = ({json.dumps(one.values[field.path]) for one in ended} for field in self._fields)
        return len(ended) >= ALIKE and all(one.why == why for one in ended) and all(len(one) > 1 for one in tried)

    def trials(self) -> list[Trial]:
        """All trials, in their order."""
        return [self._told(one) for one in self._study.get_trials(deepcopy=False)]

    def best(self) -> Trial | None:
        """The best of the trials that came to their end, the first of equals."""
        sign = 1 if self.falls else -1
        ended = [(sign * one.value, one) for one in self.trials() if one.state == "complete" and one.value is not None]
        return min(ended, key=lambda pair: (pair[0], pair[1].number), default=(0, None))[1]

    def importances(self) -> dict[str, float]:
        """Each field's share of the metric's changes; none where too few trials tell.

        PED-ANOVA (Watanabe, Bansal & Hutter 2023).
        """
        import optuna

        ended = {one.value for one in self.trials() if one.state == "complete"}
        if len(self._fields) < 2 or len(ended) < 2:
            return {}
        return dict(optuna.importance.get_param_importances(self._study))

    def _running(self) -> "list[optuna.trial.FrozenTrial]":
        import optuna

        running: list[optuna.trial.FrozenTrial] = self._study.get_trials(
            deepcopy=False, states=[optuna.trial.TrialState.RUNNING]
        )
        return running

    def _told(self, one: "optuna.trial.FrozenTrial") -> Trial:
        reports = one.intermediate_values
        value = one.value if one.value is not None else reports[max(reports)] if reports else None
        seconds = one.duration.total_seconds() if one.duration else 0.0
        return Trial(
            one.number, one.state.name.lower(), value, self._values(one.params), seconds, one.user_attrs.get(WHY)
        )  # fmt: skip

    def _values(self, params: dict[str, Any]) -> dict[str, Any]:
        return {one.path: _value(one, params[one.path]) for one in self._fields if one.path in params}


def _value(searched: Searched, drawn: Any) -> Any:
    """What a trial is given: a number of four digits, which a person can copy."""
    if searched.choices:
        return json.loads(drawn)
    return drawn if searched.whole else min(max(float(f"{drawn:.4g}"), searched.low), searched.high)


def _storage(path: Path) -> Any:
    """The journal, behind a lock that dies with its process; the entry that a crash cut short is taken off it."""
    import filelock
    import optuna

    lock = filelock.FileLock(path.with_suffix(".lock"))
    with lock:
        if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
    backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
    return optuna.storages.JournalStorage(backend)


def _sampler(fields: Sequence[Searched], seed: int) -> Any:
    """Tree-structured Parzen estimators (Bergstra et al. 2011) whose draws depend on seed, trial and history alone.

    Optuna's own goes on with one stream of random numbers, which a process that takes over does not have.
    """
    import optuna
    from numpy.random import SeedSequence

    order = {one.path: place for place, one in enumerate(fields, 1)}

    class Seeded(optuna.samplers.BaseSampler):  # type: ignore[misc]
        """For each draw a sampler of its own."""

        def _of(self, trial: Any, place: int = 0) -> Any:
            drawn = int(SeedSequence([seed, trial.number, place]).generate_state(1)[0])
            return optuna.samplers.TPESampler(seed=drawn, multivariate=True, n_startup_trials=STARTUP)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self._of(trial).infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return self._of(trial).sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return self._of(trial, order[param_name]).sample_independent(study, trial, param_name, param_distribution)

    return Seeded()
