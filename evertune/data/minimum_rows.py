"""Check that there are enough rows to train and test on, before minutes are spent on them."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from evertune.errors import DataError

if TYPE_CHECKING:
    from evertune.config import Recipe

logger = logging.getLogger(__name__)
SPLIT_HINT = (
    "splits are stored with the rows, so a changed data.split moves none of them: add rows, or change the recipe's "
    "name as well, which starts a new corpus"
)
CONSEQUENCES = {"train": "there is nothing to learn from", "test": "there is no evidence to promote on"}


def check_row_counts(row_counts: Mapping[str, int], recipe: "Recipe") -> None:
    """Refuse rows without train or test rows, and log a warning where other rows are too few.

    Args:
        row_counts: split -> number of rows.
    Raises:
        DataError: there are no train rows or no test rows.
    """
    if problems := list_missing_splits(row_counts):
        raise DataError("; ".join(problems))
    for warning in list_warnings(row_counts, recipe):
        logger.warning("%s", warning)


def list_missing_splits(row_counts: Mapping[str, int]) -> list[str]:
    """Return a message for each split without which no model can be trained or tested."""
    total = sum(row_counts.values())
    return [
        f"none of the {total:,} accepted rows is a {split} row, so {consequence}; {SPLIT_HINT}"
        for split, consequence in CONSEQUENCES.items()
        if not row_counts[split]
    ]


def list_warnings(row_counts: Mapping[str, int], recipe: "Recipe") -> list[str]:
    """Return warnings about missing validation rows and too few test rows."""
    messages = []
    test_count = row_counts["test"]
    minimum = recipe.evaluation.gate.min_rows
    if not row_counts["validation"] and recipe.training.early_stopping is not None:
        messages.append(f"no validation rows: training.early_stopping cannot be applied; {SPLIT_HINT}")
    if 0 < test_count < minimum:
        messages.append(
            f"{test_count:,} test rows are fewer than evaluation.gate.min_rows ({minimum}), so every version will be "
            "held; add rows, or lower evaluation.gate.min_rows"
        )
    return messages
