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

from evertune.config.search import SearchField
from evertune.errors import RegistryError
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal.log"
NAME = "search"
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
class Claim:
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

    def __init__(self, home: Home, fields: Sequence[SearchField], falls: bool, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._home = home
        self._fields = fields
        self.falls = falls
        home.model.mkdir(parents=True, exist_ok=True)
        with home.lock("ask"):  # two that begin at once would both make it
            self._study = optuna.create_study(
                storage=_open_journal(home.model / JOURNAL),
                study_name=NAME,
                load_if_exists=True,
                direction="minimize" if falls else "maximize",
                sampler=_make_sampler(fields, seed),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNED_AFTER, n_warmup_steps=UNTOUCHED),
            )

    @contextlib.contextmanager
    def claim_trial(self, max_trials: int, *, may_begin: bool = True) -> Iterator[Claim | None]:
        """A trial to work on while the block runs: one whose process died, else a new one, else None.

        Args:
            most: trials in all; begin: whether a new one may begin.
        """
        with contextlib.ExitStack() as stack:
            with self._home.lock("ask"):
                trial = self._resume_abandoned(stack) or (self._start_trial(stack, max_trials) if may_begin else None)
            yield None if trial is None else Claim(trial.number, self._to_values(trial.params), trial)

    def _resume_abandoned(self, stack: contextlib.ExitStack) -> "optuna.Trial | None":
        import optuna

        for trial in self._list_running():
            with contextlib.suppress(RegistryError):  # its process lives
                stack.enter_context(self.trial_home(trial.number).lock("trial", timeout=0))
                return self._suggest_values(optuna.Trial(self._study, trial._trial_id))
        return None

    def _start_trial(self, stack: contextlib.ExitStack, max_trials: int) -> "optuna.Trial | None":
        if len(self._study.get_trials(deepcopy=False)) >= max_trials:
            return None
        trial = self._study.ask()
        stack.enter_context(self.trial_home(trial.number).lock("trial", timeout=0))
        return self._suggest_values(trial)

    def _suggest_values(self, trial: "optuna.Trial") -> "optuna.Trial":
        """The trial with a value for each field; one that was given before a crash stays."""
        for searched in self._fields:
            if searched.choices:
                trial.suggest_categorical(searched.path, [json.dumps(choice) for choice in searched.choices])
            elif searched.is_whole:
                trial.suggest_int(
                    searched.path, int(searched.low), int(searched.high), step=int(searched.step or 1), log=searched.log
                )
            else:
                trial.suggest_float(searched.path, searched.low, searched.high, step=searched.step, log=searched.log)
        return trial

    def trial_home(self, number: int) -> Home:
        """A trial's own folder, and its locks: several trials of a model train at once."""
        return Home(self._home.root, f"{self._home.name}/trials/{number:04d}")

    def report_value(self, claim: Claim, value: float, share: float) -> None:
        """Tell the metric after a share of the training.

        Raises:
            optuna.TrialPruned: most others were better at this point.
        """
        import optuna

        reports = self._study.get_trials(deepcopy=False)[claim.number].intermediate_values
        for part in range(max(reports, default=0) + 1, math.floor(PARTS * share + 1e-6) + 1):
            claim.trial.report(value, part)
        if claim.trial.should_prune():
            raise optuna.TrialPruned

    def complete_trial(self, claim: Claim, value: float) -> None:
        """The trial has come to its end."""
        self._study.tell(claim.number, value)

    def prune_trial(self, claim: Claim, reason: str | None = None) -> None:
        """The trial has come to nothing; the sampler takes it for one of the worst, if there was no metric."""
        import optuna

        if reason is not None:
            claim.trial.set_user_attr(WHY, reason)
        self._study.tell(claim.number, state=optuna.trial.TrialState.PRUNED)

    def has_common_cause(self, reason: str) -> bool:
        """Whether enough trials have ended, all for this one reason, with several values of each field."""
        ended_trials = [trial for trial in self.list_trials() if trial.state != "running"]
        tried_values = ({json.dumps(trial.values[field.path]) for trial in ended_trials} for field in self._fields)
        return (
            len(ended_trials) >= ALIKE
            and all(trial.why == reason for trial in ended_trials)
            and all(len(values) > 1 for values in tried_values)
        )

    def list_trials(self) -> list[Trial]:
        """All trials, in their order."""
        return [self._describe_trial(trial) for trial in self._study.get_trials(deepcopy=False)]

    def find_best(self) -> Trial | None:
        """The best of the trials that came to their end, the first of equals."""
        sign = 1 if self.falls else -1
        scored_trials = [
            (sign * trial.value, trial)
            for trial in self.list_trials()
            if trial.state == "complete" and trial.value is not None
        ]
        return min(scored_trials, key=lambda pair: (pair[0], pair[1].number), default=(0, None))[1]

    def compute_importances(self) -> dict[str, float]:
        """Each field's share of the metric's changes; none where too few trials tell.

        PED-ANOVA (Watanabe, Bansal & Hutter 2023).
        """
        import optuna

        values = {trial.value for trial in self.list_trials() if trial.state == "complete"}
        if len(self._fields) < 2 or len(values) < 2:
            return {}
        return dict(optuna.importance.get_param_importances(self._study))

    def _list_running(self) -> "list[optuna.trial.FrozenTrial]":
        import optuna

        running: list[optuna.trial.FrozenTrial] = self._study.get_trials(
            deepcopy=False, states=[optuna.trial.TrialState.RUNNING]
        )
        return running

    def _describe_trial(self, raw: "optuna.trial.FrozenTrial") -> Trial:
        reports = raw.intermediate_values
        value = raw.value if raw.value is not None else reports[max(reports)] if reports else None
        seconds = raw.duration.total_seconds() if raw.duration else 0.0
        return Trial(
            raw.number, raw.state.name.lower(), value, self._to_values(raw.params), seconds, raw.user_attrs.get(WHY)
        )

    def _to_values(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            searched.path: _parse_value(searched, params[searched.path])
            for searched in self._fields
            if searched.path in params
        }


def _parse_value(searched: SearchField, drawn_value: Any) -> Any:
    """What a trial is given: a number of four digits, which a person can copy."""
    if searched.choices:
        return json.loads(drawn_value)
    return drawn_value if searched.is_whole else min(max(float(f"{drawn_value:.4g}"), searched.low), searched.high)


def _open_journal(path: Path) -> Any:
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


def _make_sampler(fields: Sequence[SearchField], seed: int) -> Any:
    """Tree-structured Parzen estimators (Bergstra et al. 2011) whose draws depend on seed, trial and history alone.

    Optuna's own goes on with one stream of random numbers, which a process that takes over does not have.
    """
    import optuna
    from numpy.random import SeedSequence

    positions = {searched.path: position for position, searched in enumerate(fields, 1)}

    class SeededSampler(optuna.samplers.BaseSampler):  # type: ignore[misc]
        """For each draw a sampler of its own."""

        def _create_sampler(self, trial: Any, position: int = 0) -> Any:
            draw_seed = int(SeedSequence([seed, trial.number, position]).generate_state(1)[0])
            return optuna.samplers.TPESampler(seed=draw_seed, multivariate=True, n_startup_trials=STARTUP)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self._create_sampler(trial).infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return self._create_sampler(trial).sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return self._create_sampler(trial, positions[param_name]).sample_independent(
                study, trial, param_name, param_distribution
            )

    return SeededSampler()
