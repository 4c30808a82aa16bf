"""What promotions turned out to be worth: how many points each lost, and how sure that is.

One window's metric is too noisy to call a promotion wrong: on 300 rows it scatters by two points around the truth,
where two successive models truly differ by less than one. Each promotion is therefore measured on all rows of the next
three windows, and its difference is shrunk towards what is usual between two models of this history (empirical Bayes;
Efron & Morris 1973).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from evertune.backtesting.kept_scores import KeptHistory, KeptModel
from evertune.objectives import Objective
from evertune.statistics.expected_gain import estimate_mean
from evertune.statistics.paired_tests import upper_tail
from evertune.statistics.resampling import linearize_metric

HORIZON = 3  # windows after a promotion that tell what it was worth
PAIRS = 400  # pairs of models that the usual difference is fitted on, at most
STANDARD = NormalDist()


@dataclass(frozen=True)
class Outcome:
    """What a promotion was worth, in units of the metric; higher is better.

    Args:
        difference: new model less old one, as measured on the rows of the next windows.
        error: its standard error.
        expected: the difference after shrinkage.
        spread: its standard deviation after shrinkage.
    """

    difference: float
    error: float
    expected: float
    spread: float

    @property
    def lost(self) -> float:
        """Expected loss: what the new model is worse by, weighed by how probable that is."""
        if self.spread == 0:
            return max(0.0, -self.expected)
        z = self.expected / self.spread
        return self.spread * STANDARD.pdf(z) - self.expected * upper_tail(z)

    @property
    def chance_wrong(self) -> float:
        """Probability that the new model is worse."""
        if self.spread == 0:
            return float(self.expected < 0)
        return upper_tail(self.expected / self.spread)

    @property
    def p_worse(self) -> float:
        """One-sided p-value of the measured difference for "the new model is worse"; 1 without any scatter."""
        if not self.error > 0:
            return 1.0
        return upper_tail(-self.difference / self.error)


class OutcomeScale:
    """Measures promotions of one history.

    Args:
        objective: of the recipe.
        history: the rows.
        models: all models of the history.
        metric: that policies are compared by.
    """

    def __init__(self, objective: Objective, history: KeptHistory, models: Sequence[KeptModel], metric: str) -> None:
        self._objective = objective
        self._history = history
        self._metric = metric
        pairs = list(combinations(sorted(models, key=lambda model: model.window), 2))
        step = max(1, len(pairs) // PAIRS)
        measured = [self._measure(new, old, new.window) for old, new in pairs[::step] if old.window < new.window]
        usable = [(difference, error) for difference, error in measured if math.isfinite(difference + error)]
        self.mean, self.deviation = fit_prior(usable)

    def measure(self, new: KeptModel, old: KeptModel, window: int) -> Outcome | None:
        """Return what promoting a model at the end of a window was worth; None without later rows."""
        difference, error = self._measure(new, old, window)
        if not math.isfinite(difference):
            return None
        return shrink(difference, error, self.mean, self.deviation)

    def _measure(self, new: KeptModel, old: KeptModel, window: int) -> tuple[float, float]:
        rows = self._history.rows_between(window, window + HORIZON)
        if rows.sum() < 2:
            return math.nan, math.nan
        sign = -1 if self._metric in self._objective.LOWER_IS_BETTER else 1

        def compute_value(sums: NDArray[np.float64]) -> NDArray[np.float64]:
            values = self._objective.compute_metrics(sums, self._history.facts.names)
            return np.asarray(sign * values[self._metric], dtype=np.float64)

        with np.errstate(divide="ignore", invalid="ignore"):
            new_values, old_values = (linearize_metric(model.stats[rows], compute_value) for model in (new, old))
        differences = new_values - old_values
        if not np.isfinite(differences).all():
            return math.nan, math.nan
        return estimate_mean(differences, self._history.facts.groups[rows])


def fit_prior(measured: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return mean and standard deviation of the true differences, from measured ones with their standard errors.

    By moments: what the measured differences scatter more than their errors explain.
    """
    if len(measured) < 2:
        return 0.0, math.inf
    differences, errors = np.array(measured).T
    variance = float(differences.var(ddof=1) - (errors**2).mean())
    return float(differences.mean()), math.sqrt(max(variance, 0.0))


def shrink(difference: float, error: float, mean: float, deviation: float) -> Outcome:
    """Return the outcome of a measured difference under a normal prior.

    Args:
        difference: as measured.
        error: its standard error.
        mean: of the prior.
        deviation: of the prior; infinity: nothing is known before.
    """
    if not error > 0 or math.isinf(deviation):
        return Outcome(difference, error, difference, error if error > 0 else 0.0)
    if deviation == 0:
        return Outcome(difference, error, mean, 0.0)
    precision = 1 / error**2 + 1 / deviation**2
    expected = (difference / error**2 + mean / deviation**2) / precision
    return Outcome(difference, error, expected, 1 / math.sqrt(precision))
