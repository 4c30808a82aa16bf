"""Robustness tests: how models answer slightly changed test rows (Ribeiro et al. 2020, CheckList)."""

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
    """Return `{"robustness": results}`, see `measure_robustness`; empty if the recipe configures no tests.

    Args:
        recipe: the model's recipe.
        objective: its module.
        challenger: its bundle.
        champion: its bundle; None without a champion.
        inputs: of the test rows.
        targets: of the test rows.
        predictions: model -> its answers to the unchanged inputs.
    Raises:
        TrainingError: a bundle cannot be loaded.
    """
    if recipe.evaluation.robustness is None:
        return {}
    if unknown := recipe.evaluation.robustness.find_unknown_labels(bundle.read_labels(challenger)):
        logger.warning("evaluation.robustness.opposites: the model does not know the label %s", ", ".join(unknown))
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
    """Return for each test the number of rows that it changes, and each model's shares `before`, `after`, `unchanged`.

    `before` and `after` are the shares of right answers to the original and the changed text, `unchanged` the share of
    equal answers; shares of words where words are tagged.

    Args:
        rule: `evaluation.robustness` of the recipe.
        objective: its module.
        models: model -> its predict function.
        inputs: of the test rows.
        targets: of the test rows.
        predictions: model -> its answers to the unchanged inputs.
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
    """Return the share of equal labels, or of words' equal tags; None without any."""
    first_labels = objective.list_labels(first_answers)
    second_labels = objective.list_labels(second_answers)
    if not first_labels:
        return None
    pairs = zip(first_labels, second_labels, strict=True)
    equal_labels = sum(1 for first, second in pairs if first == second)
    return equal_labels / len(first_labels)
