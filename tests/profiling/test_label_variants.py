"""Labels that look alike are told with a ready `rename:`; a name that only contains `date` is no time."""

import pytest
import yaml

from evertune.data.label_variants import explain_variants, find_variants
from evertune.profiling.column_choice import TIME_NAME


def test_variants_get_the_most_frequent_spelling() -> None:
    counts = {
        "refund": 5,
        "refund ": 2,
        "Refund": 3,
        "caf\u00e9": 4,
        "cafe\u0301": 1,
        "1": 9,
        "1.0": 3,
        "1.1": 1,
        "login": 2,
    }
    expected = {"Refund": "refund", "refund ": "refund", "cafe\u0301": "caf\u00e9", "1.0": "1"}
    assert find_variants(counts) == expected
    note = explain_variants(counts)
    assert note is not None and yaml.safe_load(note.partition("rename: ")[2]) == expected


def test_distinct_labels_are_not_told() -> None:
    assert explain_variants({"007": 1, "7": 1, "1.10": 1, "1.1": 1, "a b": 1, "ab": 1}) is None


@pytest.mark.parametrize("name", ["candidate_number", "runtime", "birthplace", "flats", "updater", "holidays"])
def test_a_name_that_contains_a_time_word_is_no_time(name: str) -> None:
    assert not TIME_NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["date", "created_at", "createdAt", "ts", "timestamp", "event time", "Order Date", "updated"]
)
def test_a_name_with_a_time_word_is_one(name: str) -> None:
    assert TIME_NAME.fullmatch(name)
