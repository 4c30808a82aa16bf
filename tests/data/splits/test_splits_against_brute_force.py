"""Splits and components are those of a plain reference: every pair compared, one row after the other."""

from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.data.splits import assign as splits
from evertune.data.splits import groups
from tests.helpers.split import RULES, assigned

WORDS = [f"word{number}" for number in range(14)]
BASES = [" ".join(WORDS[start : start + 10]) for start in range(4)]  # neighbours share 7 of 9 shingles
TEXTS = st.sampled_from([*BASES, *(f"{base} {word}!" for base in BASES for word in ("more", "and", "so on"))])
ROW = st.fixed_dictionaries({"text": TEXTS, "group": st.none() | st.sampled_from(["g1", "g2", "g3"])})
BATCHES = st.lists(st.lists(ROW, min_size=1, max_size=5), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(batches=BATCHES)
def test_every_batch_is_dealt_as_the_reference_deals_it(grouped: Any, batches: list[list[dict[str, Any]]]) -> None:
    known: pa.Table | None = None
    before: list[dict[str, Any]] = []
    for number, rows in enumerate(batches):
        rows = [{**row, "text": f"{row['text']}{'?' * number}"} for row in rows]  # a version of its own
        found = assigned(grouped, rows, known)
        expected = reference(rows, before, found["normal_digest"].to_pylist())
        assert found["split"].to_pylist() == [row["split"] for row in expected]
        assert found["component"].to_pylist() == [row["component"] for row in expected]
        before += expected
        own = found.select(list(splits.KNOWN))
        known = own if known is None else pa.concat_tables([known, own])


GIVEN = ROW.flatmap(
    lambda row: st.sampled_from([None, "train", "test"]).map(lambda split: {**row, "given_split": split})
)


@settings(deadline=None, max_examples=40)
@given(batches=st.lists(st.lists(GIVEN, min_size=1, max_size=5), min_size=2, max_size=5))
def test_a_batch_is_dealt_beside_its_neighbours_as_beside_all_rows(
    grouped: Any, batches: list[list[dict[str, Any]]]
) -> None:
    known: pa.Table | None = None
    for number, rows in enumerate(batches):
        rows = [{**row, "text": f"{row['text']}{'?' * number}"} for row in rows]
        found = assigned(grouped, rows, known)
        with mock.patch.object(groups, "SMALL", 0):
            assert assigned(grouped, rows, known).equals(found)
        own = found.select(list(splits.KNOWN))
        known = own if known is None else pa.concat_tables([known, own])


def test_a_row_beside_one_of_a_component_is_told_of_the_others(grouped: Any) -> None:
    """What hangs together with a train and a test row is left out, also where it is near one of them only."""
    rows = [{"text": BASES[0], "given_split": "train"}, {"text": BASES[3], "given_split": "test"}]
    rows = [{**row, "group": "g"} for row in rows]
    known = assigned(grouped, rows, lend=False).select(list(splits.KNOWN))
    [split] = assigned(grouped, [{"text": f"{BASES[0]} more"}], known)["split"].to_pylist()
    assert split == "excluded"


def reference(rows: list[dict[str, Any]], known: list[dict[str, Any]], digests: list[int]) -> list[dict[str, Any]]:
    """The rows with `split`, `component` and `joins`, as the decisions say it (docs/decisions, rows)."""
    fresh = [{**row, "digest": digest, "new": True} for row, digest in zip(rows, digests, strict=True)]
    around = [row for row in known if row["split"] != "excluded"]
    for row, held in zip(fresh, together(fresh, around), strict=True):
        seen = {one["split"] for one in held if not one.get("new")}
        row["split"] = "excluded" if len(seen) > 1 else seen.pop() if seen else hashed(name(held))
    staying = [row for row in fresh if row["split"] != "excluded"]
    for row, held in zip(staying, together(staying, around), strict=True):
        row["component"] = name(held)
        row["joins"] = {one["component"] for one in held if not one.get("new")}
    for row in staying:
        for one in around:
            if one["component"] in row["joins"]:
                one["component"] = row["component"]
    for row in fresh:
        row.setdefault("component", row["digest"])
        del row["new"]
        row.pop("joins", None)
    return fresh


def together(fresh: list[dict[str, Any]], around: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Of each fresh row all rows that hang together with it."""
    rows = [*fresh, *around]
    number = list(range(len(rows)))
    for one in range(len(rows)):
        for other in range(one):
            if linked(rows[one], rows[other]):
                old = number[one]
                new = number[other]
                number = [new if each == old else each for each in number]
    return [[row for row, each in zip(rows, number, strict=True) if each == own] for own in number[: len(fresh)]]


def linked(one: dict[str, Any], other: dict[str, Any]) -> bool:
    known = not one.get("new") and not other.get("new")
    if known:
        return one["component"] == other["component"]
    if one["group"] is not None and one["group"] == other["group"]:
        return True
    first = shingled(one["text"])
    second = shingled(other["text"])
    return len(first & second) / len(first | second) >= RULES.near_duplicate


def shingled(text: str) -> set[tuple[str, ...]]:
    words = text.rstrip("?").rstrip("!").split()
    return set(zip(words, words[1:], words[2:], strict=False))


def name(held: list[dict[str, Any]]) -> int:
    """The smallest known component's, else the smallest digest."""
    return min([row["component"] for row in held if not row.get("new")] or [row["digest"] for row in held])


def hashed(component: int) -> str:
    share = splits._hash_uniformly(np.array([component]))[0]
    return "test" if share < RULES.test else "validation" if share < RULES.test + RULES.validation else "train"
