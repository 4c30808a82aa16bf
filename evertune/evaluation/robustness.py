"""How models answer test rows that were changed a little: behavioural tests (Ribeiro et al. 2020, CheckList)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.config.robustness import Robustness
from evertune.data import label_names
from evertune.evaluation.perturbations import perturb_text
from evertune.objectives import Objective
from evertune.serving import bundle

if TYPE_CHECKING:
    from evertune.config import Recipe

logger = logging.getLogger(__name__)
Predict = Callable[[list[Any]], list[dict[str, Any]]]


def evaluate_robustness(
    recipe: "Recipe",
    objective: Objective,
    challenger: Path,
    champion: Path | None,
    inputs: Sequence[Any],
    targets: Sequence[Any],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """`robustness`, as `measure` tells it; nothing where the recipe asks for no tests.

    Args:
        challenger, champion: their bundles.
    """
    if recipe.evaluation.robustness is None:
        return {}
    if unknown := recipe.evaluation.robustness.find_unknown_labels(bundle.read_labels(challenger)):
        logger.warning("evaluation.robustness.opposites: the model knows no label %s", ", ".join(unknown))
    models: dict[str, Predict] = {"challenger": bundle.load_predictor(challenger).predict}
    if champion is not None and "champion" in predictions:
        champion_predictor = bundle.load_predictor(champion)
        models["champion"] = lambda texts: label_names.rename_predictions(champion_predictor.predict(texts), recipe)
    results = measure_robustness(recipe.evaluation.robustness, objective, models, inputs, targets, predictions)
    return {"robustness": results}


def measure_robustness(
    rule: Robustness,
    objective: Objective,
    models: Mapping[str, Predict],
    inputs: Sequence[Any],
    targets: Sequence[Any],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Of each test the rows that it changes, and of each model the shares `before`, `after` and `unchanged`.

    `before` and `after` are right answers, to a row's own text and to the changed one; of words, where they are tagged.

    Args:
        predictions: of each model, for the inputs as they are.
    """
    sampled_rows = np.unique(np.linspace(0, len(inputs) - 1, min(rule.rows, len(inputs))).astype(int)).tolist()
    results = {}
    for test in rule.names:
        changed_inputs = {row: perturb_text(test, inputs[row], rule.seed) for row in sampled_rows}
        tested_rows = [
            row
            for row in sampled_rows
            if _is_changed(changed_inputs[row], inputs[row]) and _has_expected_answer(test, rule, targets[row])
        ]
        texts = [changed_inputs[row] for row in tested_rows]
        expected = [targets[row] for row in tested_rows]
        expected_after = [rule.opposites[label] for label in expected] if test == "negation" else expected
        shares = {}
        for model, predict in models.items():
            before = [predictions[model][row][objective.TARGET] for row in tested_rows]
            after = [prediction[objective.TARGET] for prediction in predict(texts)]
            pairs = {"before": (before, expected), "after": (after, expected_after), "unchanged": (before, after)}
            shares[model] = {name: _share_equal(objective, *pair) for name, pair in pairs.items()}
        results[test] = {"rows": len(tested_rows), "models": shares}
    return results


def _has_expected_answer(test: str, rule: Robustness, target: Any) -> bool:
    return test != "negation" or target in rule.opposites


def _is_changed(changed_input: Any, original: Any) -> bool:
    return bool(changed_input != (original if isinstance(original, str) else list(original)))


def _share_equal(objective: Objective, first_answers: Sequence[Any], second_answers: Sequence[Any]) -> float | None:
    """Share of labels, or of words' tags, that are the same; None where there are none."""
    first_labels = objective.list_labels(first_answers)
    second_labels = objective.list_labels(second_answers)
    return (
        sum(first == second for first, second in zip(first_labels, second_labels, strict=True)) / len(first_labels)
        if first_labels
        else None
    )
