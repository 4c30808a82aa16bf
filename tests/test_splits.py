"""Splits are assigned once, follow groups and near duplicates, never the label; leaks are found."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from data_helpers import current, good, home, keyed_rows, recipe, run, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune import corpus, splits
from evertune.components import canonical
from evertune.config.data import SplitRules
from evertune.splits.near_duplicates import normalised, shingles, signatures

RULES = SplitRules()
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa".split()
WORD = st.sampled_from(WORDS)
TEXTS = st.lists(WORD, min_size=1, max_size=12).map(" ".join)
ROWS = st.lists(
    st.fixed_dictionaries({"text": TEXTS, "group": st.none() | st.sampled_from(["g1", "g2", "g3"])}), max_size=25
)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return recipe(
        tmp_path_factory.mktemp("recipe"), data={"sources": [{"path": "*.csv"}], "columns": {"group": "group"}}
    )


def assigned(one: Any, rows: list[dict[str, Any]], known: pa.Table | None = None, **how: Any) -> pa.Table:
    table = keyed_rows(
        one, [{"text": None, "label": "x", "group": None, **row} for row in rows] or [{"text": "", "label": ""}]
    )
    table = table if rows else table.slice(0, 0)
    before = EMPTY if known is None else known.select(list(splits.KNOWN))
    SEEN.update(zip(table["row_version"].to_pylist(), table["text"].to_pylist(), strict=True))
    return splits.assign(table, before, how.pop("rules", RULES), "text", look_up, **how)


SEEN: dict[str, str] = {}  # of every row that `assigned` has seen


def look_up(versions: pa.Array) -> pa.Array:
    return pa.array([SEEN[version] for version in versions.to_pylist()], pa.string())


KINDS = {"component": pa.int64(), "joins": pa.list_(pa.int64()), "normal_digest": pa.int64(), "minhash": pa.binary()}
EMPTY = pa.schema([(name, KINDS.get(name, pa.string())) for name in splits.KNOWN]).empty_table()


def split_of(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["row_version"].to_pylist(), table["split"].to_pylist(), strict=True))


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(grouped: Any, rows: list[dict[str, Any]], order: Any) -> None:
    first = assigned(grouped, rows)
    places = list(range(len(first)))
    order.shuffle(places)
    bare = first.drop_columns(["split", "component", "joins", "minhash", "normal_digest"]).take(
        pa.array(places, pa.int64())
    )
    shuffled = splits.assign(bare, EMPTY, RULES, "text", look_up)
    assert split_of(shuffled) == split_of(first)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, labels=st.lists(st.sampled_from("abc"), min_size=25, max_size=25))
def test_the_label_changes_nothing(grouped: Any, rows: list[dict[str, Any]], labels: list[str]) -> None:
    other = [{**row, "label": label} for row, label in zip(rows, labels, strict=False)]
    assert assigned(grouped, other)["split"].to_pylist() == assigned(grouped, rows)["split"].to_pylist()


@settings(deadline=None, max_examples=40)
@given(batches=st.lists(ROWS, min_size=1, max_size=3))
def test_no_group_and_no_text_stands_on_two_sides(grouped: Any, batches: list[list[dict[str, Any]]]) -> None:
    known = EMPTY
    everything: list[pa.Table] = []
    for rows in batches:
        found = assigned(grouped, rows, known)
        everything.append(found)
        known = pa.concat_tables([known, found.select(list(splits.KNOWN))])
    table = pa.concat_tables(everything)
    for name in ("group", "text"):
        sides: dict[str, set[str]] = {}
        for value, split in zip(table[name].to_pylist(), table["split"].to_pylist(), strict=True):
            if value is not None and split != "excluded":
                sides.setdefault(value, set()).add(split)
        assert all(len(found) == 1 for found in sides.values())


def test_rows_without_a_group_are_not_one_group(grouped: Any) -> None:
    for blank in ("", "  "):
        rows = [{"text": text, "group": blank} for text, _ in good(10)]
        assert len(set(assigned(grouped, rows)["component"].to_pylist())) == 10


def test_shares_are_about_right(grouped: Any) -> None:
    found = assigned(grouped, [{"text": text} for text, _ in good(4000)])["split"].to_pylist()
    assert 0.08 < found.count("test") / 4000 < 0.12
    assert 0.08 < found.count("validation") / 4000 < 0.12


def test_shares_stay_right_where_components_are_large(grouped: Any) -> None:
    rows = [{"text": text, "group": f"g{place // 20}"} for place, (text, _) in enumerate(good(8000))]
    found = assigned(grouped, rows)["split"].to_pylist()
    assert 0.06 < found.count("test") / 8000 < 0.14


def test_a_split_is_the_same_on_every_machine_and_in_every_version(grouped: Any) -> None:
    """A fixed result: if it changes, what a corpus has stored no longer fits the code or the library that hashes."""
    table = assigned(grouped, [{"text": "Where is my parcel? It should be here by now."}])
    assert signatures(normalised(table["text"]))[0, :4].tolist() == [21643, 43921, 61551, 20679]
    assert table.select(["component", "split"]).to_pylist() == [{"component": 6553636162464909346, "split": "train"}]


def test_near_duplicates_stay_together(grouped: Any) -> None:
    rows = [{"text": text} for text, _ in good(300)]
    long = " ".join(f"word{place}" for place in range(60))
    for twin in (f"{long} more", f"{long.upper()}!", f"so, {long}"):
        found = assigned(grouped, [*rows, {"text": long}, {"text": twin}])
        assert len(set(found["component"].to_pylist()[-2:])) == 1
        before = assigned(grouped, [*rows, {"text": long}])
        later = assigned(grouped, [{"text": twin}], before)
        assert later["component"].to_pylist() == before["component"].to_pylist()[-1:]
        assert later["split"].to_pylist() == before["split"].to_pylist()[-1:]


def test_the_threshold_decides(grouped: Any) -> None:
    words = [f"word{place}" for place in range(40)]
    pair = [{"text": " ".join(words)}, {"text": " ".join([*words[:32], *(f"other{place}" for place in range(8))])}]
    alike = [
        len(set(assigned(grouped, pair, rules=SplitRules(near_duplicate=one))["component"].to_pylist()))
        for one in (0.5, 0.8)
    ]
    assert alike == [1, 2]
    off = assigned(grouped, [*pair, pair[0]], rules=SplitRules(near_duplicate=None))["component"].to_pylist()
    assert off[0] == off[2] != off[1]
    chain = [{"text": "first", "group": "a"}, {"text": "second", "group": "a"}, {"text": "Second!", "group": "b"}]
    rules = SplitRules(near_duplicate=None)
    assert (
        len(set(assigned(grouped, [*chain, {"text": "third", "group": "b"}], rules=rules)["component"].to_pylist()))
        == 1
    )


def test_many_identical_texts_and_one_huge_bucket_are_quick_and_one_component(grouped: Any) -> None:
    base = " ".join(f"word{place}" for place in range(50))
    rows = [{"text": base}] * 3000 + [{"text": f"{base} number{place}"} for place in range(3000)]
    assert len(set(assigned(grouped, rows)["component"].to_pylist())) == 1


def test_signatures_estimate_the_similarity_of_word_shingles() -> None:
    words = [f"word{place}" for place in range(400)]
    texts = [" ".join(words), " ".join([*words[:300], *(f"other{place}" for place in range(100))])]
    sets = [set(one) for one in shingles(pa.array(texts)).to_pylist()]
    jaccard = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    found = signatures(pa.array(texts))
    assert abs(float((found[0] == found[1]).mean()) - jaccard) < 0.2
    assert sets[0] == {" ".join(words[place : place + 3]) for place in range(398)}


@settings(deadline=None, max_examples=100)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_shingles_are_those_of_a_plain_loop(texts: list[str]) -> None:
    normal = normalised(pa.array(texts))
    for text, found in zip(normal.to_pylist(), shingles(normal).to_pylist(), strict=True):
        words = text.split(" ")
        assert found == ([" ".join(words[place : place + 3]) for place in range(len(words) - 2)] or [text])


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
    assert normalised(pa.array([text])).to_pylist() == [expected]


def test_a_row_that_bridges_train_and_test_is_excluded_and_links_nothing(grouped: Any) -> None:
    rows = [{"text": text, "group": f"g{place}"} for place, (text, _) in enumerate(good(200))]
    first = assigned(grouped, rows)
    of = {
        split: first.filter(np.array(first["split"].to_pylist()) == split).to_pylist()[0] for split in ("train", "test")
    }
    bridge = {"text": of["train"]["text"], "group": of["test"]["group"]}
    second = assigned(grouped, [bridge], first)
    assert second.select(["split", "joins"]).to_pylist() == [{"split": "excluded", "joins": None}]
    known = pa.concat_tables([first.select(list(splits.KNOWN)), second.select(list(splits.KNOWN))])
    groups = [{"text": f"nothing like it {split}", "group": of[split]["group"]} for split in of]
    assert assigned(grouped, groups, known)["split"].to_pylist() == ["train", "test"]
    again = assigned(grouped, [bridge, *groups], first)
    assert again["split"].to_pylist() == ["excluded"] * 3  # in one batch all that hangs together is a bridge


def test_a_bridge_that_is_left_out_makes_no_leak_and_keeps_its_split(grouped: Any) -> None:
    rows = [{"text": text, "group": f"g{place // 10}"} for place, (text, _) in enumerate(good(400))]
    first = assigned(grouped, rows)
    of = {row["split"]: row for row in first.to_pylist()}
    bridge = {"text": of["train"]["text"], "group": of["test"]["group"]}
    second = assigned(grouped, [bridge], first)
    both = pa.concat_tables([first, second])
    assert (
        splits.leaked(both.set_column(both.column_names.index("component"), "component", [canonical(both)])).to_pylist()
        == []
    )
    known = both.select(list(splits.KNOWN))
    changed = second.drop_columns(["split", "component", "joins", "minhash", "normal_digest"])
    assert splits.assign(changed, known, RULES, "text", look_up)["split"].to_pylist() == ["excluded"]


def test_rows_with_a_split_of_their_own_are_not_linked_by_an_excluded_one(grouped: Any) -> None:
    train, test = (text for text, _ in good(2))
    rows = [{"text": train, "given_split": "train"}, {"text": test, "given_split": "test", "group": "g"}]
    found = assigned(grouped, [*rows, {"text": train, "group": "g"}], lend=False)
    assert found["split"].to_pylist() == ["train", "test", "excluded"]
    assert splits.leaked(found).to_pylist() == []


def test_components_that_a_row_joins_stay_joined(grouped: Any) -> None:
    rules = SplitRules(test=0, validation=0)
    for seed in range(8):  # either of the two may have the smaller id, the one that both go by from then on
        long = " ".join(f"word{seed}{place}" for place in range(60))
        pair = [{"text": long, "group": "a"}, {"text": f"other {seed}", "group": "b"}]
        first = assigned(grouped, pair, rules=rules)
        second = assigned(grouped, [{"text": f"{long} more", "group": "b"}], first)
        assert second["split"].to_pylist() == ["train"]
        known = pa.concat_tables([first.select(list(splits.KNOWN)), second.select(list(splits.KNOWN))])
        third = assigned(grouped, [{"text": "alone", "group": "a"}, {"text": "alone too", "group": "b"}], known)
        assert len(set(third["component"].to_pylist())) == 1


def given_rows() -> list[dict[str, Any]]:
    rows = [{"text": text, "given_split": "train"} for text, _ in good(400)]
    rows += [{"text": text, "given_split": "test"} for text, _ in good(50, start=1000)]
    return [*rows, {"text": good(1)[0][0] + " ", "given_split": "test"}]


def test_given_splits_are_honoured_and_train_lends_to_validation(grouped: Any) -> None:
    lent = assigned(grouped, given_rows())["split"].to_pylist()
    assert lent[400:] == ["test"] * 51
    assert set(lent[:400]) == {"train", "validation"}
    assert 20 < lent[:400].count("validation") < 60
    assert set(assigned(grouped, given_rows(), lend=False)["split"].to_pylist()[:400]) == {"train"}


def test_a_leak_in_given_files_is_reported_or_left_out(grouped: Any) -> None:
    report = assigned(grouped, given_rows(), lend=False)
    assert splits.leaked(report).to_pylist() == [report["row_version"][450].as_py()]
    rules = SplitRules(leak="exclude")
    exclude = assigned(grouped, given_rows(), lend=False, rules=rules)
    assert exclude["split"].to_pylist() == ["excluded", *["train"] * 399, *["test"] * 51]
    assert splits.leaked(exclude).to_pylist() == []


def test_train_rows_that_a_later_test_file_leaks_are_left_out_of_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data: dict[str, Any] = {"sources": [{"path": "t.csv", "split": "train"}, {"path": "e*.csv", "split": "test"}]}
    one, place = recipe(tmp_path, data={**data, "split": {"leak": "exclude"}}), home(tmp_path)
    write_csv(tmp_path / "t.csv", good(40))
    write_csv(tmp_path / "e1.csv", good(10, start=100))
    run(one, place)
    write_csv(tmp_path / "e2.csv", [(text.upper(), label) for text, label in good(10)])
    run(one, place)
    rows = corpus.rows(place, corpus.newest_version(place))
    with caplog.at_level(logging.INFO, logger="evertune"):
        learned = splits.apart(rows, one.data.split).to_pylist()
    before = {row["text"] for row in rows.to_pylist() if row["split"] == "train"}
    assert {row["text"] for row in learned if row["split"] == "train"} == before - {text for text, _ in good(10)}
    left_out = sum(row["split"] == "excluded" for row in learned)
    assert left_out > 5
    assert f"{left_out} train rows stand in or near test rows" in caplog.text
    assert splits.apart(rows, RULES) is rows


def test_a_given_validation_source_keeps_train_whole(tmp_path: Path) -> None:
    sources = [{"path": "t.csv", "split": "train"}, {"path": "v.csv", "split": "validation"}]
    assert not splits.lends_validation(recipe(tmp_path, data={"sources": sources}))
    assert splits.lends_validation(recipe(tmp_path, data={"sources": sources[:1]}))


def test_a_changed_row_given_another_split_keeps_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = [
        {"path": "t.csv", "split": "train"},
        {"path": "e.csv", "split": "test"},
        {"path": "v.csv", "split": "validation"},
    ]
    one = recipe(tmp_path, data={"sources": sources, "columns": {"id": "id"}})
    place, header = home(tmp_path), ("id", "text", "label")
    rows = [(f"n{number}", *row) for number, row in enumerate(good(30))]
    for name, part in (("t", rows[:20]), ("e", rows[20:25]), ("v", rows[25:])):
        write_csv(tmp_path / f"{name}.csv", part, header)
    run(one, place)
    write_csv(tmp_path / "t.csv", [*rows[:20], ("n20", "moved over here", "card")], header)
    with caplog.at_level(logging.WARNING):
        run(one, place)
    assert [row["split"] for row in current(place) if row["id"] == "n20"] == ["test"]
    assert "another split" in caplog.text


def test_a_component_with_much_of_a_batch_is_warned_of(grouped: Any, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": text, "group": "all" if place % 2 else None} for place, (text, _) in enumerate(good(200))]
    with caplog.at_level(logging.WARNING):
        assigned(grouped, rows)
    assert "100 of 200 rows hang together" in caplog.text


def test_leaks_are_found_across_batches_in_the_corpus(tmp_path: Path) -> None:
    sources = [{"path": "t.csv", "split": "train"}, {"path": "e.csv", "split": "test"}]
    one, place = recipe(tmp_path, data={"sources": sources}), home(tmp_path)
    write_csv(tmp_path / "t.csv", good(40))
    write_csv(tmp_path / "e.csv", good(10, start=100))
    run(one, place)
    before = corpus.rows(place, corpus.newest_version(place))
    write_csv(tmp_path / "e.csv", [*good(10, start=100), *[(text.upper(), label) for text, label in good(40)]])
    run(one, place)
    after = corpus.rows(place, corpus.newest_version(place))
    assert len(splits.leaked(before)) == 0
    leaked = set(splits.leaked(after).to_pylist())
    train = {row["component"] for row in after.to_pylist() if row["split"] == "train"}
    assert leaked == {
        row["row_version"] for row in after.to_pylist() if row["split"] == "test" and row["component"] in train
    }
    assert len(leaked) > 20
    assert {row["split"] for row in after.to_pylist()[:50]} <= {"train", "validation", "test"}
