"""Hashes and digests over Arrow's buffers agree with what Python computes string by string."""

import hashlib
import tracemalloc
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.data.columns import components, strings
from evertune.data.columns.chunks import find_repeated_strings, make_row_reader
from evertune.data.columns.components import (
    find_repeated,
    label_components,
    link_equal_values,
    mask_members,
    sort_distinct,
)
from evertune.data.columns.digests import digest_values
from evertune.records import compute_digest

TEXTS = st.lists(st.text(max_size=4) | st.sampled_from(["", "a", "aa"]), max_size=30)


@settings(deadline=None)
@given(texts=TEXTS, start=st.integers(0, 3))
def test_equal_strings_have_equal_hashes_and_others_do_not(texts: list[str], start: int) -> None:
    array = pa.array(texts, pa.string()).slice(start)
    hashes = strings.hash_strings(array).tolist()
    assert len(set(zip(array.to_pylist(), hashes, strict=True))) == len(set(array.to_pylist())) == len(set(hashes))


@given(texts=st.lists(st.text("abc", min_size=3, max_size=3), min_size=1, max_size=9))
def test_strings_of_one_length_have_the_hashes_that_they_have_among_others(texts: list[str]) -> None:
    alone = strings.hash_strings(pa.array(texts))
    among = strings.hash_strings(pa.array([*texts, "longer"]))
    assert alone.tolist() == among[:-1].tolist()


def test_slices_change_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    array = pa.array([f"text {number}" * (number % 5) for number in range(50)])
    whole = strings.hash_strings(array)
    monkeypatch.setattr(strings, "SLICE", 7)
    assert strings.hash_strings(array).tolist() == whole.tolist()
    assert pa.concat_arrays(strings.slice_texts(array)).equals(array)


@given(rows=st.lists(st.none() | st.sampled_from("abcdefgh"), max_size=20), size=st.integers(0, 20))
def test_repeated_strings_are_found(rows: list[str | None], size: int) -> None:
    tables = [pa.table({"id": pa.array(part, pa.string())}) for part in (rows[:size], rows[size:])]
    repeated = set(find_repeated_strings([make_row_reader(table) for table in tables], "id").tolist())
    first = set(rows[:size]) - {None}
    assert repeated == {index for index, row in enumerate(rows) if row in first and rows.count(row) > 1}


@settings(deadline=None)
@given(values=st.lists(st.integers(-3, 3), max_size=20), others=st.lists(st.integers(-3, 3), max_size=5))
def test_numbers_that_are_among_others(values: list[int], others: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    assert mask_members(array, np.array(others, dtype=np.int64)).tolist() == [value in others for value in values]
    assert sort_distinct(array).tolist() == sorted(set(values))
    numbers = label_components(len(array), link_equal_values(np.arange(len(array)), array))
    assert len(set(zip(values, numbers.tolist(), strict=True))) == len(set(values)) == len(set(numbers.tolist()))


def test_repeated_keys_of_which_one_is_fresh() -> None:
    keys = np.array([5, 7, 5, 9, 9, 7], dtype=np.uint64) << np.uint64(40)
    assert sorted(find_repeated(keys).tolist()) == [0, 1, 2, 3, 4, 5]
    assert sorted(find_repeated(keys, 3).tolist()) == [0, 1, 2, 5]


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_keys_are_compared_across_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "BLOCK", block)
    keys = np.array([3, 1, 2, 3, 1, 3, 4], dtype=np.uint64) << np.uint64(40)
    assert sorted(find_repeated(keys).tolist()) == [0, 1, 3, 4, 5]


def test_many_numbers_take_little_more_memory_than_they_have() -> None:
    keys = np.random.default_rng(17).integers(0, 1 << 63, 4_000_000, dtype=np.uint64)
    assert measure_peak_memory(lambda: find_repeated(keys)) < 14 * len(keys)
    strings._compute_powers.cache_clear()
    text = pa.array(["abcdefgh" * 16] * 65_536)
    assert measure_peak_memory(lambda: strings.hash_strings(text)) < 64 << 20


def measure_peak_memory(call: Callable[[], object]) -> int:
    """Return the most bytes that numpy holds at once during the call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_digests_are_those_of_the_values_and_of_the_list() -> None:
    texts = ["one", None, "two", "one", "", "é"]
    expected = [
        None
        if text is None
        else int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
        for text in texts
    ]
    many = [*texts, *(f"text {number}" for number in range(700))]  # too many distinct ones to be dictionary-encoded
    assert digest_values(pa.array(texts)).to_pylist() == digest_values(pa.array(many)).to_pylist()[:6] == expected
    parts = [pa.array(["a", "b"]), pa.array([], pa.string()), pa.array(["c"])]
    assert strings.digest_list(parts) == compute_digest(["a", "b", "c"])
    assert strings.digest_list([]) == compute_digest([])
