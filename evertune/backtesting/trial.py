"""Other gates over a kept backtest: the same models, decided on again."""

from dataclasses import dataclass

from evertune.backtesting import verdict
from evertune.backtesting.kept_source import KeptSource, find_kept_backtest
from evertune.backtesting.policies import parse_gates, parse_policies
from evertune.backtesting.simulate import measure_outcomes, simulate_policies
from evertune.backtesting.verdict import Step, Summary
from evertune.config import Recipe
from evertune.runtime.context import open_context
from evertune.statistics.paired_tests import find_kind

CONTROLS = "never,always,always:2,gated"


@dataclass(frozen=True)
class Trial:
    """Gates replayed over kept scores.

    Args:
        folder: of the kept scores.
        metric: that policies are compared by.
        steps: of all policies, window by window.
        summaries: one for each policy.
        recommended: name of the recommended policy.
        sentence: the recommendation with its evidence.
    """

    folder: str
    metric: str
    steps: tuple[Step, ...]
    summaries: tuple[Summary, ...]
    recommended: str
    sentence: str


def try_gates(recipe: Recipe, gates: str = "") -> Trial:
    """Return what the recipe's gate, and further ones, would have decided over the newest kept backtest.

    Args:
        recipe: with the gate to try, as the policy `gated`.
        gates: further rules and settings: `expected,caution=12,proof`.
    Raises:
        ConfigError: a gate is neither a rule nor a setting.
        DataError: no backtest of this recipe is kept, or its models are those of other settings.
    """
    policies = [*parse_policies(CONTROLS), *parse_gates(gates)]
    context = open_context(recipe)
    folder = find_kept_backtest(context)
    source = KeptSource(folder)
    steps = list(simulate_policies(source, recipe, policies, source.first))
    steps = measure_outcomes(steps, context.objective, source.history, source.models, recipe.metric)
    falls = recipe.metric in context.objective.LOWER_IS_BETTER
    summaries = verdict.summarize_policies(steps, recipe.metric, falls, recipe.evaluation.gate.caution)
    return Trial(
        folder=str(folder),
        metric=recipe.metric,
        steps=tuple(steps),
        summaries=tuple(summaries),
        recommended=verdict.recommend_policy(summaries).policy,
        sentence=verdict.explain_choice(
            summaries, recipe.metric, find_kind(recipe.metric, context.objective.ABSOLUTE_METRICS)
        ),
    )
