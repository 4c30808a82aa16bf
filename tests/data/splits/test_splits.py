"""Splits are assigned once, follow groups and near duplicates, never the label."""

import logging
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.config.data import SplitRules
from evertune.data.columns.chunks import make_row_reader
from evertune.data.columns.components import resolve_components
from evertune.data.splits import assign as splits
from evertune.data.splits.minhash import compute_signatures, make_shingles, normalise_texts
from tests.helpers.data import good
from tests.helpers.split import EMPTY, RULES, assign_in_memory, look_up

WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa".split()


WORD = st.sampled_from(WORDS)


TEXTS = st.lists(WORD, min_size=1, max_size=12).map(" ".join)


ROWS = st.lists(
    st.fixed_dictionaries({"text": TEXTS, "group": st.none() | st.sampled_from(["g1", "g2", "g3"])}), max_size=25
)


def split_of(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["row_version"].to_pylist(), table["split"].to_pylist(), strict=True))


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(grouped: Any, rows: list[dict[str, Any]], order: Any) -> None:
    first = assign_in_memory(grouped, rows)
    places = list(range(len(first)))
    order.shuffle(places)
    bare = first.drop_columns(["split", "component", "joins", "signature", "normal_digest"]).take(
        pa.array(places, pa.int64())
    )
    shuffled = splits.split_rows(bare, EMPTY, RULES, "text", look_up)
    assert split_of(shuffled) == split_of(first)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, labels=st.lists(st.sampled_from("abc"), min_size=25, max_size=25))
def test_the_label_changes_nothing(grouped: Any, rows: list[dict[str, Any]], labels: list[str]) -> None:
    other = [{**row, "label": label} for row, label in zip(rows, labels, strict=False)]
    assert assign_in_memory(grouped, other)["split"].to_pylist() == assign_in_memory(grouped, rows)["split"].to_pylist()


@settings(deadline=None, max_examples=40)
@given(batches=st.lists(ROWS, min_size=1, max_size=3))
def test_no_group_and_no_text_stands_on_two_sides(grouped: Any, batches: list[list[dict[str, Any]]]) -> None:
    known = EMPTY
    everything: list[pa.Table] = []
    for rows in batches:
        result = assign_in_memory(grouped, rows, known)
        everything.append(result)
        known = pa.concat_tables([known, result.select(list(splits.KNOWN))])
    table = pa.concat_tables(everything)
    for name in ("group", "text"):
        sides: dict[str, set[str]] = {}
        for value, split in zip(table[name].to_pylist(), table["split"].to_pylist(), strict=True):
            if value is not None and split != "excluded":
                sides.setdefault(value, set()).add(split)
        assert all(len(result) == 1 for result in sides.values())


def test_rows_without_a_group_are_not_one_group(grouped: Any) -> None:
    for blank in ("", "  "):
        rows = [{"text": text, "group": blank} for text, _ in good(10)]
        assert len(set(assign_in_memory(grouped, rows)["component"].to_pylist())) == 10


def test_shares_are_about_right(grouped: Any) -> None:
    result = assign_in_memory(grouped, [{"text": text} for text, _ in good(4000)])["split"].to_pylist()
    assert 0.08 < result.count("test") / 4000 < 0.12
    assert 0.08 < result.count("validation") / 4000 < 0.12


def test_shares_stay_right_where_components_are_large(grouped: Any) -> None:
    rows = [{"text": text, "group": f"g{index // 20}"} for index, (text, _) in enumerate(good(8000))]
    result = assign_in_memory(grouped, rows)["split"].to_pylist()
    assert 0.06 < result.count("test") / 8000 < 0.14


def test_a_split_is_the_same_on_every_machine_and_in_every_version(grouped: Any) -> None:
    """A fixed result: if it changes, what a corpus has stored no longer fits the code or the library that hashes."""
    table = assign_in_memory(grouped, [{"text": "Where is my parcel? It should be here by now."}])
    assert compute_signatures(normalise_texts(table["text"]))[0, :4].tolist() == [19250, 54136, 59941, 45364]
    assert table.select(["component", "split"]).to_pylist() == [{"component": 6553636162464909346, "split": "train"}]


def test_near_duplicates_stay_together(grouped: Any) -> None:
    rows = [{"text": text} for text, _ in good(300)]
    long = " ".join(f"word{index}" for index in range(60))
    for twin in (f"{long} more", f"{long.upper()}!", f"so, {long}"):
        result = assign_in_memory(grouped, [*rows, {"text": long}, {"text": twin}])
        assert len(set(result["component"].to_pylist()[-2:])) == 1
        before = assign_in_memory(grouped, [*rows, {"text": long}])
        later = assign_in_memory(grouped, [{"text": twin}], before)
        assert later["component"].to_pylist() == before["component"].to_pylist()[-1:]
        assert later["split"].to_pylist() == before["split"].to_pylist()[-1:]


def test_the_threshold_decides(grouped: Any) -> None:
    words = [f"word{index}" for index in range(40)]
    pair = [{"text": " ".join(words)}, {"text": " ".join([*words[:32], *(f"other{index}" for index in range(8))])}]
    alike = [
        len(set(assign_in_memory(grouped, pair, rules=SplitRules(near_duplicate=threshold))["component"].to_pylist()))
        for threshold in (0.5, 0.8)
    ]
    assert alike == [1, 2]
    off = assign_in_memory(grouped, [*pair, pair[0]], rules=SplitRules(near_duplicate=None))["component"].to_pylist()
    assert off[0] == off[2] != off[1]
    chain = [{"text": "first", "group": "a"}, {"text": "second", "group": "a"}, {"text": "Second!", "group": "b"}]
    rules = SplitRules(near_duplicate=None)
    assert (
        len(
            set(
                assign_in_memory(grouped, [*chain, {"text": "third", "group": "b"}], rules=rules)[
                    "component"
                ].to_pylist()
            )
        )
        == 1
    )


def test_many_identical_texts_and_one_huge_bucket_are_quick_and_one_component(grouped: Any) -> None:
    base = " ".join(f"word{index}" for index in range(50))
    rows = [{"text": base}] * 3000 + [{"text": f"{base} number{index}"} for index in range(3000)]
    assert len(set(assign_in_memory(grouped, rows)["component"].to_pylist())) == 1


def test_signatures_estimate_the_similarity_of_word_shingles() -> None:
    words = [f"word{index}" for index in range(400)]
    texts = [" ".join(words), " ".join([*words[:300], *(f"other{index}" for index in range(100))])]
    sets = [set(shingles) for shingles in make_shingles(pa.array(texts)).to_pylist()]
    jaccard = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    result = compute_signatures(pa.array(texts))
    assert abs(float((result[0] == result[1]).mean()) - jaccard) < 0.2
    assert sets[0] == {" ".join(words[index : index + 3]) for index in range(398)}


@settings(deadline=None, max_examples=100)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_shingles_are_those_of_a_plain_loop(texts: list[str]) -> None:
    normal = normalise_texts(pa.array(texts))
    for text, result in zip(normal.to_pylist(), make_shingles(normal).to_pylist(), strict=True):
        words = text.split(" ")
        assert result == ([" ".join(words[index : index + 3]) for index in range(len(words) - 2)] or [text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Where's   MY\tcard?! ", "where s my card"),
        ("ﬁne ① caf\u0065\u0301", "fine 1 café"),
        ("???", "???"),
        ("日本語 text", "日 本 語 text"),
    ],
)
def test_normalised(text: str, expected: str) -> None:
    assert normalise_texts(pa.array([text])).to_pylist() == [expected]


def test_a_row_that_bridges_train_and_test_is_excluded_and_links_nothing(grouped: Any) -> None:
    rows = [{"text": text, "group": f"g{index}"} for index, (text, _) in enumerate(good(200))]
    first = assign_in_memory(grouped, rows)
    of = {
        split: first.filter(np.array(first["split"].to_pylist()) == split).to_pylist()[0] for split in ("train", "test")
    }
    bridge = {"text": of["train"]["text"], "group": of["test"]["group"]}
    second = assign_in_memory(grouped, [bridge], first)
    assert second.select(["split", "joins"]).to_pylist() == [{"split": "excluded", "joins": None}]
    known = pa.concat_tables([first.select(list(splits.KNOWN)), second.select(list(splits.KNOWN))])
    groups = [{"text": f"nothing like it {split}", "group": of[split]["group"]} for split in of]
    assert assign_in_memory(grouped, groups, known)["split"].to_pylist() == ["train", "test"]
    again = assign_in_memory(grouped, [bridge, *groups], first)
    assert again["split"].to_pylist() == ["excluded"] * 3  # within one batch every linked row is a bridge


def test_a_bridge_that_is_left_out_makes_no_leak_and_keeps_its_split(grouped: Any) -> None:
    rows = [{"text": text, "group": f"g{index // 10}"} for index, (text, _) in enumerate(good(400))]
    first = assign_in_memory(grouped, rows)
    of = {row["split"]: row for row in first.to_pylist()}
    bridge = {"text": of["train"]["text"], "group": of["test"]["group"]}
    second = assign_in_memory(grouped, [bridge], first)
    both = pa.concat_tables([first, second])
    assert (
        splits.find_leaked_rows(
            both.set_column(both.column_names.index("component"), "component", [resolve_components(both)])
        ).to_pylist()
        == []
    )
    known = both.select(list(splits.KNOWN))
    changed = second.drop_columns(["split", "component", "joins", "signature", "normal_digest"])
    assert splits.split_rows(changed, known, RULES, "text", look_up)["split"].to_pylist() == ["excluded"]


def test_components_that_a_row_joins_stay_joined(grouped: Any) -> None:
    rules = SplitRules(test=0, validation=0)
    for seed in range(8):  # either of the two may have the smaller id, the one that both go by from then on
        long = " ".join(f"word{seed}{index}" for index in range(60))
        pair = [{"text": long, "group": "a"}, {"text": f"other {seed}", "group": "b"}]
        first = assign_in_memory(grouped, pair, rules=rules)
        second = assign_in_memory(grouped, [{"text": f"{long} more", "group": "b"}], first)
        assert second["split"].to_pylist() == ["train"]
        known = pa.concat_tables([first.select(list(splits.KNOWN)), second.select(list(splits.KNOWN))])
        third = assign_in_memory(grouped, [{"text": "alone", "group": "a"}, {"text": "alone too", "group": "b"}], known)
        assert len(set(third["component"].to_pylist())) == 1


def test_a_component_with_much_of_a_batch_is_warned_of(grouped: Any, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": text, "group": "all" if index % 2 else None} for index, (text, _) in enumerate(good(200))]
    with caplog.at_level(logging.WARNING):
        assign_in_memory(grouped, rows)
    assert "100 of 200 rows are linked" in caplog.text


def test_the_splits_of_many_rows_take_little_memory(tmp_path: Path) -> None:
    count = 300_000
    numbers = np.random.default_rng(17).permutation(count)
    rows = pa.table(
        {
            **dict.fromkeys(("row_version", "row_key"), pa.array([f"{number:032x}" for number in numbers])),
            **dict.fromkeys(("group", "given_split"), pa.nulls(count, pa.string())),
            "normal_digest": pa.array(numbers * np.int64(0x9E3779B97F4A7C15 >> 1)),
        }
    )

    def assign_all(some: pa.Table) -> pa.Table:
        rules = SplitRules(near_duplicate=None)
        return splits.assign_splits(make_row_reader(some), make_row_reader(EMPTY), rules, "text", look_up, tmp_path)

    assign_all(rows.slice(0, 40_000))  # allocates what does not depend on the number of rows
    tracemalloc.start()
    columns = assign_all(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(columns["split"].to_pylist()) == {"train", "validation", "test"}
    assert peak < 120 * count
