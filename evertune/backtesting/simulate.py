"""What a retraining policy would have done, window by window, given the scores of the models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from evertune.backtesting.compare import decide_challenge, measure_window
from evertune.backtesting.kept_scores import KeptHistory, KeptModel
from evertune.backtesting.outcomes import Outcome, OutcomeScale
from evertune.backtesting.policies import Policy
from evertune.backtesting.verdict import Step
from evertune.config import Recipe
from evertune.gate.decide import used_error_budget
from evertune.objectives import Objective, load_objective
from evertune.records import Decision
from evertune.statistics.resampling import holm

ALARM = 0.05  # p-value of drift at which the policy `drift` retrains
LEVEL = 0.05  # at which a promotion counts as proven wrong


class ModelSource(Protocol):
    """Where the models of a replay come from: trained on demand, or kept by an earlier backtest."""

    @property
    def history(self) -> KeptHistory:
        """The rows."""

    def obtain_model(self, window: int, champion: KeptModel | None) -> KeptModel:
        """Return the model that was trained at the end of a window."""

    def measure_drift(self, champion: KeptModel, after: int, until: int) -> float | None:
        """Return the p-value of a change of the rows after a window; None with too few rows."""

    def explain_missing_rows(self, window: int, champion: KeptModel) -> str:
        """Return why there are too few rows to retrain; empty if there are enough."""


@dataclass
class State:
    """The state of a policy after a window.

    Args:
        champion: the model in use.
        trained: window at whose end it trained last, whether or not the model was promoted.
        met: how often the champion was challenged with evidence.
    """

    champion: KeptModel
    trained: int
    met: int = 0


class Simulation:
    """One policy over a history.

    Args:
        policy: what it does.
        recipe: with the gate; a policy may have a gate of its own.
        source: of the models.
        first: number of the window at whose end the first model is trained.
    """

    def __init__(self, policy: Policy, recipe: Recipe, source: ModelSource, first: int) -> None:
        self.policy = policy
        self.recipe = policy.apply_gate(recipe)
        self.source = source
        self.first = first
        self.objective: Objective = load_objective(recipe.objective.type)
        self.state: State | None = None

    def advance(self, window: int) -> Step:
        """Return what the policy does at the end of a window, and the result in the next one."""
        if self.state is None:
            model = self.source.obtain_model(window, None)
            self.state = State(model, window)
            return self._describe_step(window, retrained=True, promoted=True, seconds=model.seconds)
        state = self.state
        has_new_rows = bool(self.source.history.rows_between(state.trained, window).any())  # else a run is `unchanged`
        is_due = self.policy.retrains != "never" and (window - self.first) % self.policy.period == 0 and has_new_rows
        drift_p = None
        if is_due and self.policy.retrains == "drift":
            after = max(state.champion.window, window - self.policy.period)
            drift_p = self.source.measure_drift(state.champion, after, window)
        has_no_drift = self.policy.retrains == "drift" and (drift_p is None or drift_p > ALARM)
        if not is_due or has_no_drift or self.source.explain_missing_rows(window, state.champion):
            return self._describe_step(window, drift=drift_p)
        challenger = self.source.obtain_model(window, state.champion)
        state.trained = window
        return self._challenge(state, challenger, window, drift_p)

    def _challenge(self, state: State, challenger: KeptModel, window: int, drift_p: float | None) -> Step:
        old_champion = state.champion
        decision: Decision | None = None
        if self.policy.gated:
            decision = decide_challenge(
                self.recipe, self.objective, self.source.history, challenger, old_champion, state.met + 1
            )
            state.met += used_error_budget(decision.evidence)
        promoted = (
            decision is None or decision.verdict == "promoted" or (self.policy.lenient and decision.verdict == "held")
        )
        if promoted:
            state.champion = challenger
            state.met = 0
        return self._describe_step(
            window,
            replaced=old_champion if promoted else None,
            retrained=True,
            promoted=promoted,
            seconds=challenger.seconds,
            drift=drift_p,
            decision=decision,
        )

    def _describe_step(
        self,
        window: int,
        *,
        replaced: KeptModel | None = None,
        retrained: bool = False,
        promoted: bool = False,
        seconds: float = 0.0,
        drift: float | None = None,
        decision: Decision | None = None,
    ) -> Step:
        assert self.state is not None
        history = self.source.history
        metric = self.recipe.metric
        scores = measure_window(self.objective, history, self.state.champion, window + 1)
        before = None
        if replaced is not None:
            before = measure_window(self.objective, history, replaced, window + 1).get(metric)
        value = scores.get(metric)
        is_wrong = False
        if before is not None and value is not None:
            is_wrong = value > before if metric in self.objective.LOWER_IS_BETTER else value < before
        return Step(
            policy=self.policy.name,
            window=window,
            day=history.days[window],
            rows=int(history.rows_between(window, window + 1).sum()),
            metrics=scores,
            retrained=retrained,
            promoted=promoted,
            wrong=is_wrong,
            before=before,
            verdict=decision.verdict if decision else None,
            reason=decision.reason if decision else None,
            drift=drift,
            seconds=seconds,
            model=self.state.champion.window,
            replaced=replaced.window if replaced is not None else None,
            models=(self.state.champion.name, replaced.name) if replaced is not None else None,
        )


def simulate_policies(source: ModelSource, recipe: Recipe, policies: Sequence[Policy], first: int) -> Iterator[Step]:
    """Yield each policy's step, window by window, so that policies that train the same model share it.

    Args:
        source: of rows and models.
        recipe: of the model.
        policies: to compare.
        first: number of the window at whose end the first model is trained.
    """
    simulations = [Simulation(policy, recipe, source, first) for policy in policies]
    for window in range(first, len(source.history)):
        for simulation in simulations:
            yield simulation.advance(window)


def measure_outcomes(
    steps: Sequence[Step], objective: Objective, history: KeptHistory, models: Sequence[KeptModel], metric: str
) -> list[Step]:
    """Return the steps with what each promotion turned out to be worth.

    Args:
        steps: of all policies.
        objective: of the recipe.
        history: the rows.
        models: all models of the history.
        metric: that policies are compared by.
    """
    scale = OutcomeScale(objective, history, models, metric)
    by_name = {model.name: model for model in models}
    outcomes: dict[int, Outcome] = {}
    for position, step in enumerate(steps):
        if step.models is not None:
            new, old = (by_name[name] for name in step.models)
            outcome = scale.measure(new, old, step.window)
            if outcome is not None:
                outcomes[position] = outcome
    proven = _find_proven(steps, outcomes)
    return [
        replace(
            step,
            lost=outcomes[position].lost,
            chance_wrong=outcomes[position].chance_wrong,
            proven_wrong=position in proven,
        )
        if position in outcomes
        else step
        for position, step in enumerate(steps)
    ]


def _find_proven(steps: Sequence[Step], outcomes: Mapping[int, Outcome]) -> set[int]:
    """Return the positions of promotions that are surely wrong, by Holm's correction within each policy."""
    proven = set()
    for policy in {step.policy for step in steps}:
        positions = [position for position in outcomes if steps[position].policy == policy]
        p_values = [outcomes[position].p_worse for position in positions]
        for position, p, level in zip(positions, p_values, holm(p_values, LEVEL), strict=True):
            if p <= level:
                proven.add(position)
    return proven
