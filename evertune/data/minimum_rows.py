"""What rows lack for a training and a test, told before minutes are spent on them."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from evertune.errors import DataError

if TYPE_CHECKING:
    from evertune.config import Recipe

logger = logging.getLogger(__name__)
STORED = (
    "splits are stored with the rows, so a changed data.split moves none of them: add rows, or change it together with "
    "the recipe's name, which starts anew"
)
NEEDED = {"train": "there is nothing to learn from", "test": "there is no evidence to promote on"}


def check_row_counts(row_counts: Mapping[str, int], recipe: "Recipe") -> None:
    """Warn of what a model will have to do without.

    Args:
        rows: split -> rows.
    Raises:
        DataError: no model can be trained or judged on them.
    """
    if problems := list_missing_splits(row_counts):
        raise DataError("; ".join(problems))
    for warning in list_warnings(row_counts, recipe):
        logger.warning("%s", warning)


def list_missing_splits(row_counts: Mapping[str, int]) -> list[str]:
    """Why no model can be trained or judged on these rows."""
    total = sum(row_counts.values())
    return [
        f"none of the {total:,} accepted rows is a {split} row, so {lack}; {STORED}"
        for split, lack in NEEDED.items()
        if not row_counts[split]
    ]


def list_warnings(row_counts: Mapping[str, int], recipe: "Recipe") -> list[str]:
    """What goes without validation rows, or with few test rows."""
    messages = []
    test_count = row_counts["test"]
    minimum = recipe.evaluation.gate.min_rows
    if not row_counts["validation"] and recipe.training.early_stopping is not None:
        messages.append(f"no validation rows: training.early_stopping cannot be applied; {STORED}")
    if 0 < test_count < minimum:
        messages.append(
            f"{test_count:,} test rows are fewer than evaluation.gate.min_rows ({minimum}): every version will be "
            "held; "
            "add rows, or lower it if so few are enough for you"
        )
    return messages
