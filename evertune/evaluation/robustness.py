"""How models answer test rows that were changed a little: behavioural tests (Ribeiro et al. 2020, CheckList)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.config.robustness import Robustness
from evertune.data import label_names as relabel
from evertune.evaluation.perturbations import changed
from evertune.serving import bundle

if TYPE_CHECKING:
    from evertune.config import Recipe

logger = logging.getLogger(__name__)
Predict = Callable[[list[Any]], list[dict[str, Any]]]


def told(
    recipe: "Recipe", objective: Any, challenger: Path, champion: Path | None, inputs: Sequence[Any],
    targets: Sequence[Any], predictions: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:  # fmt: skip
    """`robustness`, as `measure` tells it; nothing where the recipe asks for no tests.

    Args:
        challenger, champion: their bundles.
    """
    if recipe.evaluation.robustness is None:
        return {}
    if unknown := recipe.evaluation.robustness.strangers(bundle.labels(challenger)):
        logger.warning("evaluation.robustness.opposites: the model knows no label %s", ", ".join(unknown))
    models: dict[str, Predict] = {"challenger": bundle.predictor(challenger).predict}
    if champion is not None and "champion" in predictions:
        theirs = bundle.predictor(champion)
        models["champion"] = lambda given: relabel.predictions(theirs.predict(given), recipe)
    found = measure(recipe.evaluation.robustness, objective, models, inputs, targets, predictions)
    return {"robustness": found}


def measure(
    rule: Robustness, objective: Any, models: Mapping[str, Predict], inputs: Sequence[Any], targets: Sequence[Any],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:  # fmt: skip
    """Of each test the rows that it changes, and of each model the shares `before`, `after` and `unchanged`.

    `before` and `after` are right answers, to a row's own text and to the changed one; of words, where they are tagged.

    Args:
        predictions: of each model, for the inputs as they are.
    """
    some = np.unique(np.linspace(0, len(inputs) - 1, min(rule.rows, len(inputs))).astype(int)).tolist()
    found = {}
    for test in rule.names:
        other = {place: changed(test, inputs[place], rule.seed) for place in some}
        places = [
            place for place in some if _differs(other[place], inputs[place]) and _known(test, rule, targets[place])
        ]
        given, own = [other[place] for place in places], [targets[place] for place in places]
        wanted = [rule.opposites[one] for one in own] if test == "negation" else own
        shares = {}
        for model, predict in models.items():
            before = [predictions[model][place][objective.TARGET] for place in places]
            after = [one[objective.TARGET] for one in predict(given)]
            pairs = {"before": (before, own), "after": (after, wanted), "unchanged": (before, after)}
            shares[model] = {name: _agree(objective, *pair) for name, pair in pairs.items()}
        found[test] = {"rows": len(places), "models": shares}
    return found


def _known(test: str, rule: Robustness, target: Any) -> bool:
    return test != "negation" or target in rule.opposites


def _differs(one: Any, other: Any) -> bool:
    return bool(one != (other if isinstance(other, str) else list(other)))


def _agree(objective: Any, one: Sequence[Any], other: Sequence[Any]) -> float | None:
    """Share of labels, or of words' tags, that are the same; None where there are none."""
    ours, theirs = objective.label_values(one), objective.label_values(other)
    return sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours) if ours else None
