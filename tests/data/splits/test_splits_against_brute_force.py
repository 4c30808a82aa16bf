"""Splits and components are those of a plain reference: every pair compared, one row after the other."""

from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.data.splits import assign as splits
from evertune.data.splits import groups
from tests.helpers.split import RULES, assign_in_memory

pytestmark = pytest.mark.slow

WORDS = [f"word{number}" for number in range(14)]
BASES = [" ".join(WORDS[start : start + 10]) for start in range(4)]  # neighbours share 7 of 9 shingles
TEXTS = st.sampled_from([*BASES, *(f"{base} {word}!" for base in BASES for word in ("more", "and", "so on"))])
ROW = st.fixed_dictionaries({"text": TEXTS, "group": st.none() | st.sampled_from(["g1", "g2", "g3"])})
BATCHES = st.lists(st.lists(ROW, min_size=1, max_size=5), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(batches=BATCHES)
def test_every_batch_is_split_as_by_the_reference(grouped: Any, batches: list[list[dict[str, Any]]]) -> None:
    known: pa.Table | None = None
    before: list[dict[str, Any]] = []
    for number, rows in enumerate(batches):
        rows = [{**row, "text": f"{row['text']}{'?' * number}"} for row in rows]  # a version of its own
        result = assign_in_memory(grouped, rows, known)
        expected = reference(rows, before, result["normal_digest"].to_pylist())
        assert result["split"].to_pylist() == [row["split"] for row in expected]
        assert result["component"].to_pylist() == [row["component"] for row in expected]
        before += expected
        own = result.select(list(splits.KNOWN))
        known = own if known is None else pa.concat_tables([known, own])


GIVEN = ROW.flatmap(
    lambda row: st.sampled_from([None, "train", "test"]).map(lambda split: {**row, "given_split": split})
)


@settings(deadline=None, max_examples=40)
@given(batches=st.lists(st.lists(GIVEN, min_size=1, max_size=5), min_size=2, max_size=5))
def test_a_batch_is_split_by_its_neighbours_as_by_all_rows(grouped: Any, batches: list[list[dict[str, Any]]]) -> None:
    known: pa.Table | None = None
    for number, rows in enumerate(batches):
        rows = [{**row, "text": f"{row['text']}{'?' * number}"} for row in rows]
        result = assign_in_memory(grouped, rows, known)
        with mock.patch.object(groups, "SMALL", 0):
            assert assign_in_memory(grouped, rows, known).equals(result)
        own = result.select(list(splits.KNOWN))
        known = own if known is None else pa.concat_tables([known, own])


def test_a_row_near_one_of_a_component_is_linked_with_the_others(grouped: Any) -> None:
    """A row that is linked with a train and a test row is excluded, even if it is near only one of them."""
    rows = [{"text": BASES[0], "given_split": "train"}, {"text": BASES[3], "given_split": "test"}]
    rows = [{**row, "group": "g"} for row in rows]
    known = assign_in_memory(grouped, rows, lend=False).select(list(splits.KNOWN))
    [split] = assign_in_memory(grouped, [{"text": f"{BASES[0]} more"}], known)["split"].to_pylist()
    assert split == "excluded"


def reference(rows: list[dict[str, Any]], known: list[dict[str, Any]], digests: list[int]) -> list[dict[str, Any]]:
    """Return the rows with `split` and `component` by the rules of docs/decisions/2026-11-22-rows.md."""
    fresh = [{**row, "digest": digest, "new": True} for row, digest in zip(rows, digests, strict=True)]
    around = [row for row in known if row["split"] != "excluded"]
    for row, linked_rows in zip(fresh, find_linked(fresh, around), strict=True):
        known_splits = {other["split"] for other in linked_rows if not other.get("new")}
        if len(known_splits) > 1:
            row["split"] = "excluded"
        elif known_splits:
            row["split"] = known_splits.pop()
        else:
            row["split"] = hash_to_split(identify(linked_rows))
    staying = [row for row in fresh if row["split"] != "excluded"]
    for row, linked_rows in zip(staying, find_linked(staying, around), strict=True):
        row["component"] = identify(linked_rows)
        row["joins"] = {other["component"] for other in linked_rows if not other.get("new")}
    for row in staying:
        for other in around:
            if other["component"] in row["joins"]:
                other["component"] = row["component"]
    for row in fresh:
        row.setdefault("component", row["digest"])
        del row["new"]
        row.pop("joins", None)
    return fresh


def find_linked(fresh: list[dict[str, Any]], around: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return for each fresh row all rows that are linked with it, directly or through others."""
    rows = [*fresh, *around]
    numbers = list(range(len(rows)))
    for index in range(len(rows)):
        for other in range(index):
            if are_linked(rows[index], rows[other]):
                old = numbers[index]
                new = numbers[other]
                numbers = [new if number == old else number for number in numbers]
    return [[row for row, number in zip(rows, numbers, strict=True) if number == own] for own in numbers[: len(fresh)]]


def are_linked(row: dict[str, Any], other: dict[str, Any]) -> bool:
    both_known = not row.get("new") and not other.get("new")
    if both_known:
        return row["component"] == other["component"]
    if row["group"] is not None and row["group"] == other["group"]:
        return True
    first = make_shingles(row["text"])
    second = make_shingles(other["text"])
    return len(first & second) / len(first | second) >= RULES.near_duplicate


def make_shingles(text: str) -> set[tuple[str, ...]]:
    words = text.rstrip("?").rstrip("!").split()
    return set(zip(words, words[1:], words[2:], strict=False))


def identify(linked_rows: list[dict[str, Any]]) -> int:
    """Return the smallest known component, else the smallest digest."""
    known = [row["component"] for row in linked_rows if not row.get("new")]
    return min(known or [row["digest"] for row in linked_rows])


def hash_to_split(component: int) -> str:
    share = splits._hash_uniformly(np.array([component]))[0]
    if share < RULES.test:
        return "test"
    return "validation" if share < RULES.test + RULES.validation else "train"
