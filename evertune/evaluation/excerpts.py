"""Test rows that the report shows, with what each model says of them."""

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = 10  # rows, evenly spaced
LONGEST = 700  # characters of each text


def excerpts(
    objective: Any, inputs: Sequence[Any], targets: Sequence[Any], predictions: Mapping[str, Sequence[Any]]
) -> list[dict[str, str]]:
    """What was given, what was wanted, and what `challenger` and `champion` said, as texts.

    Args:
        predictions: of each model, in the order of the rows.
    """
    if not hasattr(objective, "sample"):
        return []
    shown = [place for place, one in enumerate(predictions["challenger"])
             if objective.sample(inputs[place], targets[place], one) is not None]  # fmt: skip
    found = []
    for place in shown[:: max(1, len(shown) // SHOWN)][:SHOWN]:
        row: dict[str, str] = {}
        for model, said in predictions.items():
            told = objective.sample(inputs[place], targets[place], said[place])
            row |= dict(zip(("input", "target", model), (one[:LONGEST] for one in told or ()), strict=False))
        found.append(row)
    return found
