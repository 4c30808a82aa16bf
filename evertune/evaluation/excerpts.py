"""Test rows that the report shows, with what each model says of them."""

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = 10  # rows, evenly spaced
LONGEST = 700  # characters of each text


def select_excerpts(
    objective: Any, inputs: Sequence[Any], targets: Sequence[Any], predictions: Mapping[str, Sequence[Any]]
) -> list[dict[str, str]]:
    """What was given, what was wanted, and what `challenger` and `champion` said, as texts.

    Args:
        predictions: of each model, in the order of the rows.
    """
    if not hasattr(objective, "sample"):
        return []
    shown_rows = [
        index
        for index, prediction in enumerate(predictions["challenger"])
        if objective.sample(inputs[index], targets[index], prediction) is not None
    ]
    shown_excerpts = []
    for index in shown_rows[:: max(1, len(shown_rows) // SHOWN)][:SHOWN]:
        row: dict[str, str] = {}
        for model, model_predictions in predictions.items():
            sample = objective.sample(inputs[index], targets[index], model_predictions[index])
            row |= dict(zip(("input", "target", model), (text[:LONGEST] for text in sample or ()), strict=False))
        shown_excerpts.append(row)
    return shown_excerpts
