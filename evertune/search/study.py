"""The trials of a search, in Optuna's journal: claim a trial, resume an abandoned one, report how it ended.

Every process of a search has a study of its own over the same journal. A trial belongs to the process that holds its
lock. The lock is released when the process dies, and the next process that claims a trial resumes the abandoned one.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evertune.config.search import SearchField
from evertune.errors import RegistryError
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal.log"
NAME = "search"
WHY = "why"  # attribute of a pruned trial: the reason
PARTS = 20  # of a training: trials are compared at the same part, however many steps their trainings have
STARTUP = 6  # trials drawn at random before the sampler learns from them
PRUNED_AFTER = 4  # finished trials before the first one can be pruned
ALIKE = 5  # trials that failed for one reason, whatever their values, before the search gives up
UNTOUCHED = PARTS // 5  # parts of a training in which it is not pruned


@dataclass(frozen=True)
class Trial:
    """One trial, as the journal has it.

    Args:
        number: from 0.
        state: `complete`, `pruned`, or `running`.
        value: of the metric on the validation rows; the last known one of a pruned trial.
        values: path -> value that was tried.
        seconds: duration.
        why: reason why it was pruned, if not for its metric.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, object]
    seconds: float = 0.0
    why: str | None = None


@dataclass
class Claim:
    """A trial that this process runs, while it holds the trial's lock."""

    number: int
    values: dict[str, object]
    trial: "optuna.Trial" = field(repr=False)


class Study:
    """A search's trials.

    Args:
        home: of the search.
        fields: what is searched.
        falls: whether a lower metric is better.
        seed: decides, together with the trials that have ended, what is tried.
    """

    def __init__(self, home: Home, fields: Sequence[SearchField], falls: bool, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._home = home
        self._fields = fields
        self.falls = falls
        home.model.mkdir(parents=True, exist_ok=True)
        with home.lock("ask"):  # two processes that start at once would both create the study
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
        """Claim a trial for the duration of the block: an abandoned one, else a new one, else None.

        Args:
            max_trials: number of trials of the whole search.
            may_begin: whether a new trial may begin.
        """
        with contextlib.ExitStack() as stack:
            with self._home.lock("ask"):
                trial = self._resume_abandoned(stack)
                if trial is None and may_begin:
                    trial = self._start_trial(stack, max_trials)
            yield None if trial is None else Claim(trial.number, self._to_values(trial.params), trial)

    def _resume_abandoned(self, stack: contextlib.ExitStack) -> "optuna.Trial | None":
        import optuna

        for trial in self._list_running():
            with contextlib.suppress(RegistryError):  # its process is alive
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
        """Return the trial with a value for each field; values suggested before a crash stay."""
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
        """Return the home of a trial, with locks of its own: several trials of a model train at once."""
        return Home(self._home.root, f"{self._home.name}/trials/{number:04d}")

    def report_value(self, claim: Claim, value: float, share: float) -> None:
        """Report the metric after a share of the training.

        Raises:
            optuna.TrialPruned: most other trials were better at this point.
        """
        import optuna

        reports = self._study.get_trials(deepcopy=False)[claim.number].intermediate_values
        for part in range(max(reports, default=0) + 1, math.floor(PARTS * share + 1e-6) + 1):
            claim.trial.report(value, part)
        if claim.trial.should_prune():
            raise optuna.TrialPruned

    def complete_trial(self, claim: Claim, value: float) -> None:
        """Record that the trial was completed."""
        self._study.tell(claim.number, value)

    def prune_trial(self, claim: Claim, reason: str | None = None) -> None:
        """Record that the trial was pruned; without a metric, the sampler treats it as one of the worst."""
        import optuna

        if reason is not None:
            claim.trial.set_user_attr(WHY, reason)
        self._study.tell(claim.number, state=optuna.trial.TrialState.PRUNED)

    def has_common_cause(self, reason: str) -> bool:
        """Whether enough trials have ended, all for this reason, with several values of each field."""
        ended_trials = [trial for trial in self.list_trials() if trial.state != "running"]
        tried_values = ({json.dumps(trial.values[field.path]) for trial in ended_trials} for field in self._fields)
        return (
            len(ended_trials) >= ALIKE
            and all(trial.why == reason for trial in ended_trials)
            and all(len(values) > 1 for values in tried_values)
        )

    def list_trials(self) -> list[Trial]:
        """Return all trials, in order."""
        return [self._describe_trial(trial) for trial in self._study.get_trials(deepcopy=False)]

    def find_best(self) -> Trial | None:
        """Return the best completed trial, the first of equals; None without any."""
        sign = 1 if self.falls else -1
        best: tuple[float, Trial] | None = None
        for trial in self.list_trials():
            if trial.state == "complete" and trial.value is not None:
                loss = sign * trial.value
                if best is None or loss < best[0]:
                    best = loss, trial
        return None if best is None else best[1]

    def compute_importances(self) -> dict[str, float]:
        """Return each field's share of the metric's variation; empty with too few trials.

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
        value = raw.value
        if value is None and reports:
            value = reports[max(reports)]
        return Trial(
            number=raw.number,
            state=raw.state.name.lower(),
            value=value,
            values=self._to_values(raw.params),
            seconds=raw.duration.total_seconds() if raw.duration else 0.0,
            why=raw.user_attrs.get(WHY),
        )

    def _to_values(self, params: Mapping[str, str | float]) -> dict[str, object]:
        return {
            searched.path: _parse_value(searched, params[searched.path])
            for searched in self._fields
            if searched.path in params
        }


def _parse_value(searched: SearchField, drawn_value: str | float) -> object:
    """Return the value that a trial uses: a number is rounded to four digits, which a person can copy."""
    if searched.choices:
        return json.loads(cast(str, drawn_value))
    if searched.is_whole:
        return drawn_value
    return min(max(float(f"{drawn_value:.4g}"), searched.low), searched.high)


def _open_journal(path: Path) -> "optuna.storages.JournalStorage":
    """Open the journal behind a lock that is released with its process; an entry that a crash cut off is removed."""
    import filelock
    import optuna

    lock = filelock.FileLock(path.with_suffix(".lock"))
    with lock:
        content = path.read_bytes() if path.exists() else b""
        if path.exists() and not content.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
    backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
    return optuna.storages.JournalStorage(backend)


def _make_sampler(fields: Sequence[SearchField], seed: int) -> "optuna.samplers.BaseSampler":
    """Return a tree-structured Parzen estimator (Bergstra et al. 2011) that draws by seed, trial and history alone.

    Optuna's own sampler continues one stream of random numbers, which a process that resumes a trial does not have.
    """
    import optuna
    from numpy.random import SeedSequence
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    positions = {searched.path: position for position, searched in enumerate(fields, 1)}

    class SeededSampler(optuna.samplers.BaseSampler):  # type: ignore[misc]
        """Uses a new sampler for each draw."""

        def _create_sampler(self, trial: FrozenTrial, position: int = 0) -> optuna.samplers.TPESampler:
            draw_seed = int(SeedSequence([seed, trial.number, position]).generate_state(1)[0])
            return optuna.samplers.TPESampler(seed=draw_seed, multivariate=True, n_startup_trials=STARTUP)

        def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
            space: dict[str, BaseDistribution] = self._create_sampler(trial).infer_relative_search_space(study, trial)
            return space

        def sample_relative(
            self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, str | float]:
            values: dict[str, str | float] = self._create_sampler(trial).sample_relative(study, trial, search_space)
            return values

        def sample_independent(
            self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
        ) -> str | float:
            value: str | float = self._create_sampler(trial, positions[param_name]).sample_independent(
                study, trial, param_name, param_distribution
            )
            return value

    return SeededSampler()
