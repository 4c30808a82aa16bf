"""Test rows that the report shows, with what each model says of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from evertune.objectives import Objective

SHOWN = 10  # rows, evenly spaced
LONGEST = 700  # characters of each text


def select_excerpts(
    objective: Objective, inputs: Sequence[Any], targets: Sequence[Any], predictions: Mapping[str, Sequence[Any]]
) -> list[dict[str, str]]:
    """What was given, what was wanted, and what `challenger` and `champion` said, as texts.

    Args:
        predictions: of each model, in the order of the rows.
    """
    shown_rows = [
        index
        for index, prediction in enumerate(predictions["challenger"])
        if objective.make_excerpt(inputs[index], targets[index], prediction) is not None
    ]
    shown_excerpts = []
    for index in shown_rows[:: max(1, len(shown_rows) // SHOWN)][:SHOWN]:
        row: dict[str, str] = {}
        for model, model_predictions in predictions.items():
            sample = objective.make_excerpt(inputs[index], targets[index], model_predictions[index])
            row |= dict(zip(("input", "target", model), (text[:LONGEST] for text in sample or ()), strict=False))
        shown_excerpts.append(row)
    return shown_excerpts
