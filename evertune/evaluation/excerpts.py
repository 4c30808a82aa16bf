"""Test rows that the report shows, with each model's answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from evertune.objectives import Objective

SHOWN = 10  # rows, evenly spaced
LONGEST = 700  # most characters of each text


def select_excerpts(
    objective: Objective, inputs: Sequence[Any], targets: Sequence[Any], predictions: Mapping[str, Sequence[Any]]
) -> list[dict[str, str]]:
    """Return `input`, `target`, and the answers of `challenger` and `champion` as texts, for some of the rows.

    Args:
        objective: its module.
        inputs: of the rows.
        targets: of the rows.
        predictions: model -> its answers, in the order of the rows.
    """
    shown_rows = [
        index
        for index, prediction in enumerate(predictions["challenger"])
        if objective.make_excerpt(inputs[index], targets[index], prediction) is not None
    ]
    shown_excerpts = []
    step = max(1, len(shown_rows) // SHOWN)
    for index in shown_rows[::step][:SHOWN]:
        row: dict[str, str] = {}
        for model, model_predictions in predictions.items():
            sample = objective.make_excerpt(inputs[index], targets[index], model_predictions[index])
            texts = [text[:LONGEST] for text in sample or ()]
            row |= dict(zip(("input", "target", model), texts, strict=False))
        shown_excerpts.append(row)
    return shown_excerpts
