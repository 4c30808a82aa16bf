"""The contract refuses bad rows, each with its reasons, and accepts unusual but undamaged text."""

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
from tests.helpers.contract import GOOD, check, check_as_batch, list_refusals, make_rows, stop_message
from tests.helpers.data import TOKENS, good, keyed_rows, make_recipe

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
    verdicts = check(tmp_path, [*GOOD, row], ("card", "refund"), data=MAPPED, contract=contract)
    assert list_refusals(verdicts) == [([kind], [reason])]
    assert verdicts.reasons == {kind: 1}
    assert verdicts.accepted.num_rows == 20


def test_damaged_characters_may_be_kept(tmp_path: Path) -> None:
    rows = [*GOOD, {"text": "a\x85b \ufffd", "label": "card"}]
    assert check(tmp_path, rows, ("card", "refund"), contract={"characters": "keep"}).refused.num_rows == 0


def test_a_short_text_and_an_empty_one(tmp_path: Path) -> None:
    rows = [*GOOD, *make_rows([("hi", "card"), ("", "card"), ("okay", "card")])]
    verdicts = check(tmp_path, rows, contract={"text": {"min_length": 3}})
    assert list_refusals(verdicts) == [
        (["text too short"], ["text: shorter than 3 characters"]),
        (["empty text", "text too short"], ["text: empty", "text: shorter than 3 characters"]),
    ]
    assert check(tmp_path, rows, contract={"text": {"min_length": 0}}).refused.num_rows == 0


def test_every_reason_is_kept_and_a_class_counts_a_row_once(tmp_path: Path) -> None:
    verdicts = check(
        tmp_path, [*GOOD, {"text": "caf\u00c3\u00a9 \x01", "label": "caf\u00c3\u00a9"}], ("card", "refund")
    )
    kinds = ["encoding damage", "control character", "encoding damage", "unknown label"]
    assert sorted(list_refusals(verdicts)[0][0]) == sorted(kinds)
    assert verdicts.reasons == {"encoding damage": 1, "control character": 1, "unknown label": 1}


def test_labels_are_inferred_from_the_first_batch_and_then_fixed(tmp_path: Path) -> None:
    rows = [*GOOD, *make_rows([("only once here", "slip"), ("new one", "new"), ("new two", "new")])]
    first_batch = check(tmp_path, rows)
    assert list_refusals(first_batch) == [
        (["rare label"], ["label: 'slip' appears in fewer than 2 rows (contract.label.min_rows)"])
    ]
    later = check(tmp_path, rows, ("card", "refund", "slip"))
    assert later.reasons == {"unknown label": 2}
    listed = check(tmp_path, rows, ("card",), contract={"label": {"values": ["card", "refund", "new", "slip"]}})
    assert listed.refused.num_rows == 0


def test_blank_labels_tags_and_ids_are_missing_however_many_there_are(tmp_path: Path) -> None:
    blank = make_rows([("one text", " "), ("two texts", " "), ("three texts", "\t")])
    assert check(tmp_path, [*GOOD, *blank]).reasons == {"missing label": 3}
    tagged = [{"tokens": ["Rome", f"n{number}"], "tags": ["B-LOC", "O"]} for number in range(5)]
    verdicts = check(tmp_path, [*tagged, *[{**tagged[0], "tags": ["B-LOC", " "]}] * 3], objective=TOKENS)
    assert (verdicts.accepted.num_rows, verdicts.reasons["empty item in tags"]) == (5, 3)
    with_id = {"sources": [{"path": "*.csv"}], "columns": {"id": "id"}}
    rows = [{**row, "id": f"n{number}"} for number, row in enumerate(GOOD)]
    verdicts = check(tmp_path, [*rows, {**GOOD[0], "id": ""}, {**GOOD[1], "id": " "}], data=with_id)
    assert (verdicts.accepted.num_rows, verdicts.reasons) == (20, {"missing id": 2})


@settings(deadline=None, max_examples=15)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=12))
def test_accepted_and_refused_are_the_batch(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    rows = [*GOOD, *make_rows([(text, "card") for text in texts])]
    verdicts = check(tmp_path_factory.mktemp("recipe"), rows)
    seen = [*verdicts.accepted["row_version"].to_pylist(), *verdicts.refused["row_version"].to_pylist()]
    recipe = make_recipe(tmp_path_factory.mktemp("recipe"))
    assert sorted(seen) == sorted(keyed_rows(recipe, rows)["row_version"].to_pylist())
    assert all(row["reasons"] and len(row["reasons"]) == len(row["kinds"]) for row in verdicts.refused.to_pylist())


def test_two_labels_for_one_text(tmp_path: Path) -> None:
    rows = [*GOOD, *make_rows([("which one", "card"), ("which one", "refund"), ("fine", "card"), ("fine", "card")])]
    verdicts = check(tmp_path, rows)
    assert (
        list_refusals(verdicts)
        == [(["two labels for one input"], ["text: the same input has another label in this batch"])] * 2
    )
    assert check(tmp_path, rows, contract={"conflicts": "keep"}).refused.num_rows == 0
    slip = [*GOOD, *make_rows([("which one", "card"), ("which one", "crad")])]
    assert check(tmp_path, slip, ("card", "refund")).reasons == {"unknown label": 1}


def test_another_label_than_in_the_corpus(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    known = pa.table(
        {"input_digest": digest_values(pa.array(["old text"])), "target_digest": digest_values(pa.array(["card"]))}
    )
    table = keyed_rows(recipe, [*GOOD, *make_rows([("old text", "refund")])])
    assert list_refusals(check_rows(table, recipe, ("card", "refund"), lambda _digests: known)) == [
        (["two labels for one input"], ["text: the same input has another label in the corpus"])
    ]
    same = keyed_rows(recipe, [*GOOD, *make_rows([("old text", "card")])])
    assert check_rows(same, recipe, ("card", "refund"), lambda _digests: known).refused.num_rows == 0


def test_duplicate_ids_unless_moments_order_them(tmp_path: Path) -> None:
    data = {"sources": [{"path": "*.csv"}], "columns": {"id": "ticket", "timestamp": "at"}}
    plain = [{**row, "id": f"n{index}"} for index, row in enumerate(GOOD)]
    early = 1_700_000_000_000_000
    late = 1_750_000_000_000_000

    def refusals_at(*moments: int | None) -> list[tuple[list[str], list[str]]]:
        twins = [
            {"id": "x", "text": f"text {index}", "label": "card", "timestamp": moment}
            for index, moment in enumerate(moments)
        ]
        return list_refusals(check(tmp_path, [*plain, *twins], data=data))

    assert refusals_at(early, late) == []
    assert refusals_at(early, early) == [(["duplicate id"], ["ticket: 2 different rows have this id"])] * 2
    assert len(refusals_at(early, None)) == len(refusals_at(None, None)) == 2
    assert len(refusals_at(early, late, late)) == 3
    missing = check(tmp_path, [*plain, {"text": "no id", "label": "card"}], data=data)
    assert list_refusals(missing) == [(["missing id"], ["ticket: missing"])]
    same_text = [{"id": name, "text": "one text", "label": name} for name in ("card", "refund")]
    assert check(tmp_path, [*plain, *same_text], data=data).refused.num_rows == 0


def test_an_unreadable_timestamp(tmp_path: Path) -> None:
    data = {"sources": [{"path": "*.csv"}], "columns": {"timestamp": "at"}}
    row = {"text": "when", "label": "card", "timestamp_problem": "yesterday-ish"}
    assert list_refusals(check(tmp_path, [*GOOD, row], data=data)) == [
        (["unreadable timestamp"], ["at: 'yesterday-ish' is not a date or time"])
    ]


TAGGED = [
    {"tokens": ["Anna", "lives", "in", "Rome", f"n{number}"], "tags": ["B-PER", "O", "O", "B-LOC", "O"]}
    for number in range(10)
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
    verdicts = check(tmp_path, [*TAGGED, row], ("B-LOC", "B-PER", "O"), **sections)
    assert list_refusals(verdicts) == [([kind], [reason])]


def test_an_empty_sentence_is_refused_and_the_shape_of_tags_is_not(tmp_path: Path) -> None:
    rows = [*TAGGED, {"tokens": [], "tags": []}, {"tokens": ["x", "y"], "tags": ["I-LOC", "I-PER"]}]
    contract = {"label": {"values": ["B-LOC", "I-LOC", "B-PER", "I-PER", "O"]}}
    verdicts = check(tmp_path, rows, objective=TOKENS, contract=contract)
    assert [row["tokens"] for row in verdicts.refused.to_pylist()] == [[]]
    inferred = check(tmp_path, rows, objective=TOKENS)
    assert inferred.reasons == {"empty tokens": 1, "rare tag": 1}


def test_too_many_refused_rows_stop_the_batch_with_reasons_and_three_rows(tmp_path: Path) -> None:
    bad = make_rows([("a", "refnd"), ("b", "refudn"), ("c", "x"), ("", "card"), ("d\x07", "card")])
    message = stop_message(tmp_path, [*GOOD, *bad], ("card", "refund"), data=MAPPED)
    assert "refused 5 of 25 rows (20.0%); contract.tolerance allows 5.0%" in message
    assert re.search(r"\b3  unknown label\n", message)
    shown = [line for line in message.splitlines() if line.startswith("  test, row")]
    assert len(shown) == 3
    assert shown[0] == "  test, row 20: intent: 'refnd' is not one of the 2 known labels | 'a'"
    assert {"row 20", "row 23", "row 24"} == {line.split(", ")[1].split(":")[0] for line in shown}
    assert "evertune quarantine" in message


def test_a_stop_survives_pickling_with_its_verdicts(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    with pytest.raises(BatchStoppedError) as stop:
        check_as_batch(keyed_rows(recipe, [*GOOD, {"text": "", "label": "card"}] * 2), recipe, ("card",))
    again = pickle.loads(pickle.dumps(stop.value))
    assert str(again) == str(stop.value)
    assert again.verdicts.refused.equals(stop.value.verdicts.refused)


def test_the_tolerance_itself_is_tolerated(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, contract={"tolerance": 0.2})
    rows = [*GOOD, *make_rows([("", "card")] * 5)]
    assert check_as_batch(keyed_rows(recipe, rows), recipe, ()).refused.num_rows == 5


def test_one_label_only_and_no_row_at_all_stop_a_first_batch(tmp_path: Path) -> None:
    same = make_rows([(text, "card") for text, _ in good(10)])
    assert "every accepted row has the label 'card'" in stop_message(tmp_path, same)
    assert "no row was accepted" in stop_message(tmp_path, make_rows([("", "card")]), contract={"tolerance": 1.0})
    recipe = make_recipe(tmp_path)
    assert check_as_batch(keyed_rows(recipe, same), recipe, ("card", "refund")).accepted.num_rows == 10


def test_a_label_with_too_large_a_share_stops_a_batch_that_is_large_enough(tmp_path: Path) -> None:
    rows = make_rows([(text, "card") for text, _ in good(100)])
    assert "100.0% of the labels are 'card'" in stop_message(tmp_path, rows, ("card", "refund"))
    assert "contract.label.max_share allows 60.0%" in stop_message(
        tmp_path, [*rows[30:60], *GOOD], contract={"label": {"max_share": 0.6}}
    )
    recipe = make_recipe(tmp_path)
    few = check_as_batch(keyed_rows(recipe, rows[:20]), recipe, ("card", "refund"))
    assert few.accepted.num_rows == 20


def test_data_docs_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    verdicts = check_as_batch(keyed_rows(recipe, GOOD), recipe, (), tmp_path / "docs")
    assert (tmp_path / "docs" / "index.html").is_file()
    assert read_json(tmp_path / "docs" / "result.json") == verdicts.suite_result
    assert len(list((tmp_path / "docs" / "validations").rglob("*.html"))) == 1
    assert verdicts.suite_result["passed"] == verdicts.suite_result["expectations"] > 5


def test_nothing_reaches_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    recipe = make_recipe(
        tmp_path,
        contract={"expectations": [{"type": "expect_column_values_to_match_regex", "column": "text", "regex": "(a)"}]},
    )
    with caplog.at_level(logging.DEBUG):
        check_as_batch(keyed_rows(recipe, GOOD), recipe, (), tmp_path / "docs")
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("great_expectations")] == []
