"""Which rows a retraining learns from: new ones, and a draw of old ones."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from evertune.training import row_selection as selection
from tests.helpers.model import recipe, table

ROWS = table(
    [{"text": "a", "label": "refund" if place % 10 == 0 else "card", "batch": 1 + place // 100} for place in range(400)]
)


def drawn(replay: dict[str, Any], since: int = 3, seed: int = 17) -> pa.Table:
    """The rows that `replay` chooses of three old batches and a new one, 100 rows each, a tenth of them refunds."""
    data = {"sources": [{"path": "rows.csv"}], "fresh": {"train_on": "replay", "replay": replay}}
    one = recipe(Path("model"), data=data, training={"seed": seed})
    return ROWS.filter(pa.array(selection.select_train_rows(ROWS, one, since)))


def counts(rows: pa.Table, column: str = "batch") -> Counter[Any]:
    return Counter(rows[column].to_pylist())


def test_old_rows_are_added_by_ratio() -> None:
    batches = counts(drawn({"ratio": 0.5}))
    assert (batches[4], batches.total()) == (100, 150)
    assert counts(drawn({"ratio": 100})) == Counter({1: 100, 2: 100, 3: 100, 4: 100})


def test_without_a_champion_all_rows_are_new() -> None:
    assert len(drawn({"ratio": 0.5}, since=0)) == 400


def test_newer_rows_are_drawn_sooner() -> None:
    found = counts(drawn({"ratio": 0.5, "by": "recency", "half_life": 0.5}))
    assert found[3] > 30 > found[2] > found[1]


def test_rare_labels_are_drawn_as_often_as_frequent_ones() -> None:
    rare = counts(drawn({"ratio": 0.5, "by": "balance"}), "label")["refund"] - 10  # of the 30 old ones
    assert rare > 15 > counts(drawn({"ratio": 0.5}), "label")["refund"] - 10


def test_the_same_rows_are_drawn_again_and_others_for_another_champion() -> None:
    first = drawn({"ratio": 0.3})
    same = drawn({"ratio": 0.3})
    assert first.equals(same)
    for other in (drawn({"ratio": 0.3}, seed=18), drawn({"ratio": 0.3}, since=2)):
        kept = set(first["row_version"].to_pylist()) & set(
            other.filter(pa.compute.less(other["batch"], 3))["row_version"].to_pylist()
        )
        assert len(kept) < 20


@given(st.sampled_from(["uniform", "recency", "balance"]), st.floats(0.01, 9), st.integers(0, 5), st.integers(0, 99))
def test_all_new_rows_and_the_asked_number_of_old_ones(by: str, ratio: float, since: int, seed: int) -> None:
    found = counts(drawn({"ratio": ratio, "by": by, "half_life": 0.01}, since, seed))
    new = 100 * max(0, 4 - since)
    assert sum(count for batch, count in found.items() if batch > since) == new
    assert found.total() - new == min(400 - new, round(ratio * new))


def test_of_each_label_a_few_rows_are_learned_from_the_same_ones_again() -> None:
    data = {"sources": [{"path": "rows.csv"}], "fresh": {"examples_per_label": 8}}
    one = recipe(Path("model"), data=data)
    kept = ROWS.filter(pa.array(selection.select_train_rows(ROWS, one, 0)))
    assert counts(kept, "label") == Counter({"refund": 8, "card": 8})
    assert counts(kept)[4] < 16  # drawn from all of them, not from the last
    assert kept.equals(ROWS.filter(pa.array(selection.select_train_rows(ROWS, one, 0))))
    other = recipe(Path("model"), data=data, training={"seed": 18})
    assert not kept.equals(ROWS.filter(pa.array(selection.select_train_rows(ROWS, other, 0))))
