"""The gate's decision about two models of a replayed history, from their kept scores alone."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from evertune.backtesting.kept_scores import KeptHistory, KeptModel
from evertune.config import Recipe
from evertune.evaluation.evaluate import limit_window
from evertune.evaluation.slices import cut_slices
from evertune.gate.decide import Case, Scored, decide_promotion
from evertune.gate.expected import RowScores
from evertune.gate.label_scores import compute_label_f1
from evertune.objectives import Objective
from evertune.records import Decision
from evertune.statistics.resampling import sum_rows

Mask = NDArray[np.bool_]


def decide_challenge(
    recipe: Recipe,
    objective: Objective,
    history: KeptHistory,
    challenger: KeptModel,
    champion: KeptModel,
    challenge_number: int,
) -> Decision:
    """Return the gate's decision on the clean test rows that were known when the challenger was trained.

    Args:
        recipe: with the gate.
        objective: of the recipe.
        history: the rows.
        challenger: the model in question.
        champion: the model in use.
        challenge_number: how many challengers, this one included, this champion has met.
    Raises:
        DataError: the kept arrays do not describe the same rows.
    """
    known_test = history.is_test & history.rows_between(0, challenger.window)
    is_scored = limit_window(known_test, history.windows, recipe.evaluation.window, champion.window)
    leaked = history.leaked_from <= challenger.window
    clean = is_scored & ~leaked
    scored_facts = history.facts.select(is_scored)
    is_clean_scored = ~leaked[is_scored]
    slices = cut_slices(recipe.evaluation.slices, scored_facts, champion.window)
    facts = history.facts.select(clean)
    has_new_label = facts.mark_new_labels(champion.labels if objective.LABELED else None)
    scored = Scored(
        challenger=challenger.stats[clean],
        champion=champion.stats[clean],
        fresh=facts.batches > champion.window,
        slices={name: mask[is_clean_scored] for name, mask in slices.items()},
        leaked=int((is_scored & leaked).sum()),
        groups=facts.groups,
        has_new_label=has_new_label,
    )
    scores = None
    if challenger.scores is not None and champion.scores is not None:
        scores = RowScores(
            challenger=challenger.scores.log[clean],
            champion=champion.scores.log[clean],
            sizes=challenger.scores.sizes[clean],
            days=facts.days,
            ingests=facts.ingests,
            classes=facts.classes,
        )
    return decide_promotion(
        Case(
            scored,
            metrics=lambda sums: objective.compute_metrics(sums, history.facts.names),
            metric=recipe.metric,
            # Neither costs nor a simple model are measured for every window.
            rule=recipe.evaluation.gate.model_copy(update={"resources": {}, "above_baseline": False}),
            lower_is_better=objective.LOWER_IS_BETTER,
            challenge_number=challenge_number,
            resamples=recipe.evaluation.bootstrap,
            seed=recipe.training.seed,
            robustness=challenger.robustness,
            no_shares=objective.ABSOLUTE_METRICS,
            scores=scores,
            label_score=partial(compute_label_f1, objective, history.facts.names) if objective.LABELED else None,
        )
    )


def measure_window(
    objective: Objective, history: KeptHistory, model: KeptModel, window: int
) -> dict[str, float | None]:
    """Return the metrics of a model on all rows of a window; empty without rows."""
    rows = history.rows_between(window - 1, window)
    if not rows.any():
        return {}
    metrics = objective.compute_metrics(sum_rows(model.stats[rows]), history.facts.names)
    return {name: float(value) if np.isfinite(value) else None for name, value in metrics.items()}
