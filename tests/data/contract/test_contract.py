"""The contract refuses what it should, keeps its hands off honest text, and says why in words."""

import logging
import pickle
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.data.columns.digests import digest_values
from evertune.data.contract.judge import BatchStoppedError, check_rows
from evertune.runtime.files import read_json
from tests.helpers.contract import GOOD, judged, refused, rows_of, stopped, verdicts
from tests.helpers.data import TOKENS, good, keyed_rows, recipe

MAPPED = {"sources": [{"path": "*.csv"}], "columns": {"text": "message", "label": "intent"}}


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        ({"text": None, "label": "card"}, "missing text", "message: missing"),
        ({"text": " \u00a0\u2003\t", "label": "card"}, "empty text", "message: empty"),
        ({"text": "x" * 101, "label": "card"}, "text too long", "message: longer than 100 characters"),
        ({"text": "hi", "label": None}, "missing label", "intent: missing"),
        ({"text": "hi", "label": ""}, "missing label", "intent: missing"),
        ({"text": "hi", "label": " \u00a0"}, "missing label", "intent: missing"),
        ({"text": "hi", "label": "refnd"}, "unknown label", "intent: 'refnd' is not one of the 2 known labels"),
        ({"text": "so \ufffd", "label": "card"}, "encoding damage", "message: damaged encoding, '\ufffd'"),
        ({"text": "a\x00b", "label": "card"}, "control character", "message: control character U+0000"),
        ({"text": "a\x9bb", "label": "card"}, "control character", "message: control character U+009B"),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(tmp_path: Path, row: dict[str, Any], kind: str, reason: str) -> None:
    contract = {"text": {"max_length": 100}}
    found = verdicts(tmp_path, [*GOOD, row], ("card", "refund"), data=MAPPED, contract=contract)
    assert refused(found) == [([kind], [reason])]
    assert found.reasons == {kind: 1}
    assert found.accepted.num_rows == 20


def test_damaged_characters_may_be_kept(tmp_path: Path) -> None:
    rows = [*GOOD, {"text": "a\x85b \ufffd", "label": "card"}]
    assert verdicts(tmp_path, rows, ("card", "refund"), contract={"characters": "keep"}).refused.num_rows == 0


def test_a_short_text_and_an_empty_one(tmp_path: Path) -> None:
    rows = [*GOOD, *rows_of([("hi", "card"), ("", "card"), ("okay", "card")])]
    found = verdicts(tmp_path, rows, contract={"text": {"min_length": 3}})
    assert refused(found) == [
        (["text too short"], ["text: shorter than 3 characters"]),
        (["empty text", "text too short"], ["text: empty", "text: shorter than 3 characters"]),
    ]
    assert verdicts(tmp_path, rows, contract={"text": {"min_length": 0}}).refused.num_rows == 0


def test_every_reason_is_kept_and_a_class_counts_a_row_once(tmp_path: Path) -> None:
    found = verdicts(
        tmp_path, [*GOOD, {"text": "caf\u00c3\u00a9 \x01", "label": "caf\u00c3\u00a9"}], ("card", "refund")
    )
    kinds = ["encoding damage", "control character", "encoding damage", "unknown label"]
    assert sorted(refused(found)[0][0]) == sorted(kinds)
    assert found.reasons == {"encoding damage": 1, "control character": 1, "unknown label": 1}


def test_labels_are_inferred_from_the_first_batch_and_then_fixed(tmp_path: Path) -> None:
    rows = [*GOOD, *rows_of([("only once here", "slip"), ("new one", "new"), ("new two", "new")])]
    first_batch = verdicts(tmp_path, rows)
    assert refused(first_batch) == [
        (["rare label"], ["label: 'slip' appears in fewer than 2 rows (contract.label.min_rows)"])
    ]
    later = verdicts(tmp_path, rows, ("card", "refund", "slip"))
    assert later.reasons == {"unknown label": 2}
    listed = verdicts(tmp_path, rows, ("card",), contract={"label": {"values": ["card", "refund", "new", "slip"]}})
    assert listed.refused.num_rows == 0


def test_blank_labels_tags_and_ids_are_missing_however_many_there_are(tmp_path: Path) -> None:
    blank = rows_of([("one text", " "), ("two texts", " "), ("three texts", "\t")])
    assert verdicts(tmp_path, [*GOOD, *blank]).reasons == {"missing label": 3}
    tagged = [{"tokens": ["Rome", f"n{number}"], "tags": ["B-LOC", "O"]} for number in range(5)]
    found = verdicts(tmp_path, [*tagged, *[{**tagged[0], "tags": ["B-LOC", " "]}] * 3], objective=TOKENS)
    assert (found.accepted.num_rows, found.reasons["empty item in tags"]) == (5, 3)
    with_id = {"sources": [{"path": "*.csv"}], "columns": {"id": "id"}}
    rows = [{**row, "id": f"n{number}"} for number, row in enumerate(GOOD)]
    found = verdicts(tmp_path, [*rows, {**GOOD[0], "id": ""}, {**GOOD[1], "id": " "}], data=with_id)
    assert (found.accepted.num_rows, found.reasons) == (20, {"missing id": 2})


@settings(deadline=None, max_examples=15)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=12))
def test_accepted_and_refused_are_the_batch(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    rows = [*GOOD, *rows_of([(text, "card") for text in texts])]
    found = verdicts(tmp_path_factory.mktemp("recipe"), rows)
    seen = [*found.accepted["row_version"].to_pylist(), *found.refused["row_version"].to_pylist()]
    one = recipe(tmp_path_factory.mktemp("recipe"))
    assert sorted(seen) == sorted(keyed_rows(one, rows)["row_version"].to_pylist())
    assert all(row["reasons"] and len(row["reasons"]) == len(row["kinds"]) for row in found.refused.to_pylist())


def test_two_labels_for_one_text(tmp_path: Path) -> None:
    rows = [*GOOD, *rows_of([("which one", "card"), ("which one", "refund"), ("fine", "card"), ("fine", "card")])]
    found = verdicts(tmp_path, rows)
    assert (
        refused(found) == [(["two labels for one input"], ["text: the same input has another label in this batch"])] * 2
    )
    assert verdicts(tmp_path, rows, contract={"conflicts": "keep"}).refused.num_rows == 0
    slip = [*GOOD, *rows_of([("which one", "card"), ("which one", "crad")])]
    assert verdicts(tmp_path, slip, ("card", "refund")).reasons == {"unknown label": 1}


def test_another_label_than_in_the_corpus(tmp_path: Path) -> None:
    one = recipe(tmp_path)
    known = pa.table(
        {"input_digest": digest_values(pa.array(["old text"])), "target_digest": digest_values(pa.array(["card"]))}
    )
    table = keyed_rows(one, [*GOOD, *rows_of([("old text", "refund")])])
    assert refused(check_rows(table, one, ("card", "refund"), lambda wanted: known)) == [
        (["two labels for one input"], ["text: the same input has another label in the corpus"])
    ]
    same = keyed_rows(one, [*GOOD, *rows_of([("old text", "card")])])
    assert check_rows(same, one, ("card", "refund"), lambda wanted: known).refused.num_rows == 0


def test_duplicate_ids_unless_moments_order_them(tmp_path: Path) -> None:
    data = {"sources": [{"path": "*.csv"}], "columns": {"id": "ticket", "timestamp": "at"}}
    plain = [{**row, "id": f"n{place}"} for place, row in enumerate(GOOD)]
    one = 1_700_000_000_000_000
    two = 1_750_000_000_000_000

    def found(*moments: int | None) -> list[tuple[list[str], list[str]]]:
        twins = [
            {"id": "x", "text": f"text {place}", "label": "card", "timestamp": moment}
            for place, moment in enumerate(moments)
        ]
        return refused(verdicts(tmp_path, [*plain, *twins], data=data))

    assert found(one, two) == []
    assert found(one, one) == [(["duplicate id"], ["ticket: 2 different rows have this id"])] * 2
    assert len(found(one, None)) == len(found(None, None)) == 2
    assert len(found(one, two, two)) == 3
    missing = verdicts(tmp_path, [*plain, {"text": "no id", "label": "card"}], data=data)
    assert refused(missing) == [(["missing id"], ["ticket: missing"])]
    same_text = [{"id": name, "text": "one text", "label": name} for name in ("card", "refund")]
    assert verdicts(tmp_path, [*plain, *same_text], data=data).refused.num_rows == 0


def test_an_unreadable_timestamp(tmp_path: Path) -> None:
    data = {"sources": [{"path": "*.csv"}], "columns": {"timestamp": "at"}}
    row = {"text": "when", "label": "card", "timestamp_problem": "yesterday-ish"}
    assert refused(verdicts(tmp_path, [*GOOD, row], data=data)) == [
        (["unreadable timestamp"], ["at: 'yesterday-ish' is not a date or time"])
    ]


TAGGED = [
    {"tokens": ["Anna", "lives", "in", "Rome", f"n{place}"], "tags": ["B-PER", "O", "O", "B-LOC", "O"]}
    for place in range(10)
]


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "word and tag counts differ", "words: 2 words, but 1 tags"),
        ({"tokens": ["a"], "tags": ["B-ORG"]}, "unknown tag", "tags: 'B-ORG' is not one of the 3 known tags"),
        ({"tokens": ["a", " "], "tags": ["O", "O"]}, "empty item in tokens", "words: item 1 is empty"),
        ({"tokens": None, "tags": ["O"]}, "missing tokens", "words: missing"),
        ({"tokens": ["a"] * 9, "tags": ["O"] * 9}, "tokens too long", "words: longer than 8 words"),
        ({"tokens": ["caf\u00c3\u00a9"], "tags": ["O"]}, "encoding damage", "words: damaged encoding, '\u00c3\u00a9'"),
    ],
)
def test_a_bad_sentence_is_refused(tmp_path: Path, row: dict[str, Any], kind: str, reason: str) -> None:
    data = {"sources": [{"path": "*.jsonl"}], "columns": {"tokens": "words"}}
    sections = {"objective": TOKENS, "data": data, "contract": {"tokens": {"max_length": 8}}}
    found = verdicts(tmp_path, [*TAGGED, row], ("B-LOC", "B-PER", "O"), **sections)
    assert refused(found) == [([kind], [reason])]


def test_an_empty_sentence_is_refused_and_the_shape_of_tags_is_not(tmp_path: Path) -> None:
    rows = [*TAGGED, {"tokens": [], "tags": []}, {"tokens": ["x", "y"], "tags": ["I-LOC", "I-PER"]}]
    contract = {"label": {"values": ["B-LOC", "I-LOC", "B-PER", "I-PER", "O"]}}
    found = verdicts(tmp_path, rows, objective=TOKENS, contract=contract)
    assert [row["tokens"] for row in found.refused.to_pylist()] == [[]]
    inferred = verdicts(tmp_path, rows, objective=TOKENS)
    assert inferred.reasons == {"empty tokens": 1, "rare tag": 1}


def test_too_many_refused_rows_stop_the_batch_with_reasons_and_three_rows(tmp_path: Path) -> None:
    bad = rows_of([("a", "refnd"), ("b", "refudn"), ("c", "x"), ("", "card"), ("d\x07", "card")])
    message = stopped(tmp_path, [*GOOD, *bad], ("card", "refund"), data=MAPPED)
    assert "refused 5 of 25 rows (20.0%); contract.tolerance allows 5.0%" in message
    assert re.search(r"\b3  unknown label\n", message)
    shown = [line for line in message.splitlines() if line.startswith("  test, row")]
    assert len(shown) == 3
    assert shown[0] == "  test, row 20: intent: 'refnd' is not one of the 2 known labels | 'a'"
    assert {"row 20", "row 23", "row 24"} == {line.split(", ")[1].split(":")[0] for line in shown}
    assert "evertune quarantine" in message


def test_a_stop_survives_pickling_with_its_verdicts(tmp_path: Path) -> None:
    one = recipe(tmp_path)
    with pytest.raises(BatchStoppedError) as stop:
        judged(keyed_rows(one, [*GOOD, {"text": "", "label": "card"}] * 2), one, ("card",))
    again = pickle.loads(pickle.dumps(stop.value))
    assert str(again) == str(stop.value)
    assert again.verdicts.refused.equals(stop.value.verdicts.refused)


def test_the_tolerance_itself_is_tolerated(tmp_path: Path) -> None:
    one = recipe(tmp_path, contract={"tolerance": 0.2})
    rows = [*GOOD, *rows_of([("", "card")] * 5)]
    assert judged(keyed_rows(one, rows), one, ()).refused.num_rows == 5


def test_one_label_only_and_no_row_at_all_stop_a_first_batch(tmp_path: Path) -> None:
    same = rows_of([(text, "card") for text, _ in good(10)])
    assert "every accepted row has the label 'card'" in stopped(tmp_path, same)
    assert "no row was accepted" in stopped(tmp_path, rows_of([("", "card")]), contract={"tolerance": 1.0})
    one = recipe(tmp_path)
    assert judged(keyed_rows(one, same), one, ("card", "refund")).accepted.num_rows == 10


def test_a_label_with_too_large_a_share_stops_a_batch_that_is_large_enough(tmp_path: Path) -> None:
    rows = rows_of([(text, "card") for text, _ in good(100)])
    assert "100.0% of the labels are 'card'" in stopped(tmp_path, rows, ("card", "refund"))
    assert "contract.label.max_share allows 60.0%" in stopped(
        tmp_path, [*rows[30:60], *GOOD], contract={"label": {"max_share": 0.6}}
    )
    one = recipe(tmp_path)
    few = judged(keyed_rows(one, rows[:20]), one, ("card", "refund"))
    assert few.accepted.num_rows == 20


def test_data_docs_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    one = recipe(tmp_path)
    found = judged(keyed_rows(one, GOOD), one, (), tmp_path / "docs")
    assert (tmp_path / "docs" / "index.html").is_file()
    assert read_json(tmp_path / "docs" / "result.json") == found.suite_result
    assert len(list((tmp_path / "docs" / "validations").rglob("*.html"))) == 1
    assert found.suite_result["passed"] == found.suite_result["expectations"] > 5


def test_nothing_reaches_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    one = recipe(
        tmp_path,
        contract={"expectations": [{"type": "expect_column_values_to_match_regex", "column": "text", "regex": "(a)"}]},
    )
    with caplog.at_level(logging.DEBUG):
        judged(keyed_rows(one, GOOD), one, (), tmp_path / "docs")
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("great_expectations")] == []
