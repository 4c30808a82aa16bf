"""The report of a run: self-contained, safe with any text, complete where data are missing."""

import copy
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evertune.report import draw_pictures
from tests.helpers.report import (
    DETAILS,
    DRIFT,
    HISTORY,
    ORIGIN,
    OUTCOME,
    SECTIONS,
    TAG_DETAILS,
    Json,
    Read,
    details_of,
    without,
    write_report,
    write_report_without_pictures,
)

HOSTILE = ["<b>", "</td><script>", "\" onload='", "&lt;", "]]>", "<!--"]


@pytest.mark.parametrize("details", [DETAILS, TAG_DETAILS], ids=["classes", "tags"])
def test_page_has_every_section_in_order(tmp_path: Path, details: Json) -> None:
    assert Read(write_report(tmp_path, details=details)).headings == SECTIONS


def test_page_opens_with_the_decision_its_colour_and_its_reason(tmp_path: Path) -> None:
    for decision in ("promoted", "held", "rejected", "unchanged"):
        read = Read(write_report_without_pictures(tmp_path, {**OUTCOME, "decision": decision}))
        assert next(attributes["class"] for tag, attributes in read.tags if tag == "header") == f"hero {decision}"
        assert f"{decision.capitalize()} : better by 3.1 points" in read.text


def test_evidence_counts_groups_where_rows_are_grouped(tmp_path: Path) -> None:
    tests = [{**check, "groups": groups} for check, groups in zip(OUTCOME["evidence"], (60, 1240), strict=False)]
    read = Read(write_report_without_pictures(tmp_path, {**OUTCOME, "evidence": tests}))
    assert "312 in 60 groups" in " ".join(read.text.split()) and "in 1,240 groups" not in read.text


def test_page_is_self_contained(tmp_path: Path) -> None:
    path = write_report(tmp_path)
    read = Read(path)
    source = path.read_text()
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    links = [attributes[key] for _, attributes in read.tags for key in ("src", "href", "srcset") if key in attributes]
    assert all(link and link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert "url(" not in source and "@import" not in source and "://" not in source


def test_every_link_in_the_page_leads_to_a_section(tmp_path: Path) -> None:
    read = Read(write_report(tmp_path))
    anchors = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert {attributes["href"] for tag, attributes in read.tags if tag == "a"} == {f"#{name}" for name in anchors}


@pytest.mark.parametrize(
    ("missing", "section"),
    [("evidence", "Evidence"), ("seconds", "Cost")],
)
def test_sections_without_an_outcome_are_left_out(tmp_path: Path, missing: str, section: str) -> None:
    assert Read(write_report(tmp_path, without(OUTCOME, missing))).headings == [
        heading for heading in SECTIONS if heading != section
    ]


@pytest.mark.parametrize(
    ("missing", "section"),
    [
        ("slices", "Slices"),
        ("changed", "Changed rows"),
        ("challenger.per_class", "Classes"),
        ("challenger.confusion", "Confusion"),
        ("challenger.calibration", "Calibration"),
    ],
)
def test_sections_without_details_are_left_out(tmp_path: Path, missing: str, section: str) -> None:
    read = Read(write_report(tmp_path, details=without(DETAILS, missing)))
    assert read.headings == [heading for heading in SECTIONS if heading != section]


def test_a_run_that_scored_nothing_has_a_page_about_its_data(tmp_path: Path) -> None:
    outcome = {
        **OUTCOME,
        "decision": "unchanged",
        "evidence": [],
        "seconds": {},
        "training": {},
        "version": None,
        "run_id": None,
    }
    read = Read(write_report(tmp_path, outcome, {}, []))
    assert read.headings == ["Data", "Lineage"]
    assert "text: too short" in read.text


def test_page_without_a_champion_compares_with_nothing(tmp_path: Path) -> None:
    details = {**copy.deepcopy(DETAILS), "champion": None, "changed": []}
    for entry in details["slices"].values():
        entry["champion"] = None
    read = Read(write_report(tmp_path, {**OUTCOME, "evidence": []}, details))
    assert read.headings == [heading for heading in SECTIONS if heading not in {"Evidence", "Changed rows"}]
    assert "Change" not in read.texts and "Champion" not in read.texts


def test_page_with_an_empty_history_has_no_loss_curve(tmp_path: Path) -> None:
    assert "loss_curve" not in draw_pictures(tmp_path, DETAILS, [])
    read = Read(write_report(tmp_path, {**OUTCOME, "training": {}}, history=[]))
    assert read.headings == [heading for heading in SECTIONS if heading != "Training"]


def replace_texts(value: Any, replacement: str) -> Any:
    """Return the same tree with every text from outside replaced, keys that are data included."""
    kept = {"test", "decision", "kind", "metric"}
    keyed_by_data = {"per_class", "per_tag", "slices", "reasons", "seconds", "training"}
    if isinstance(value, list):
        return [replace_texts(item, replacement) for item in value]
    if not isinstance(value, dict):
        return replacement if isinstance(value, str) else value
    tree = {}
    for key, item in value.items():
        if key in kept:
            tree[key] = item
        elif key in keyed_by_data:
            tree[key] = replace_keys(item, replacement)
        else:
            tree[key] = replace_texts(item, replacement)
    return tree


def replace_keys(value: Json, replacement: str) -> Json:
    return {f"{replacement}{index}": replace_texts(item, replacement) for index, item in enumerate(value.values())}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(HOSTILE))
def test_no_text_changes_the_structure_of_the_page(tmp_path: Path, text: str) -> None:
    harmless, other = (
        Read(write_report_without_pictures(tmp_path, replace_texts(OUTCOME, value), replace_texts(DETAILS, value)))
        for value in ("a", text)
    )
    assert other.structure() == harmless.structure()


def test_texts_of_rows_and_labels_are_shown_as_they_are(tmp_path: Path) -> None:
    text = "<script>alert('1 & 2')</script> \"quoted\""
    details = {**DETAILS, "changed": [{**row, "input": text} for row in DETAILS["changed"]]}
    read = Read(write_report_without_pictures(tmp_path, {**OUTCOME, "reason": text, "run_id": text}, details))
    assert read.texts.count(text) == 3 and f": {text}" in read.texts


def replace_numbers(value: Any, choices: Iterator[float | None]) -> Any:
    """Return the same tree with some numbers missing or not finite; counts and steps are kept."""
    kept = {"counts", "step", "rows", "names", "leaked"}
    if isinstance(value, dict):
        return {key: item if key in kept else replace_numbers(item, choices) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_numbers(item, choices) for item in value]
    if not isinstance(value, float):
        return value
    choice = next(choices)
    return value if choice == 0 else choice


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=st.lists(st.sampled_from([0.0, None, math.nan, math.inf]), min_size=1, max_size=7), tags=st.booleans())
def test_a_value_that_is_not_a_number_is_a_dash(tmp_path: Path, choices: list[float | None], tags: bool) -> None:
    cycled = itertools.cycle(choices)
    trees = (OUTCOME, TAG_DETAILS if tags else DETAILS, HISTORY)
    outcome, details, history = (replace_numbers(tree, cycled) for tree in trees)
    read = Read(write_report(tmp_path, outcome, details, history))
    assert not re.search(r"\b(nan|inf|None|null)\b", read.text, re.IGNORECASE)
    assert "–" in read.texts


def test_numbers_have_at_most_four_decimals(tmp_path: Path) -> None:
    read = Read(write_report_without_pictures(tmp_path))
    assert "+0.0312" in read.texts
    assert not re.search(r"\d\.\d{5}", read.text)


def test_a_falling_calibration_error_is_good_and_a_falling_score_is_bad(tmp_path: Path) -> None:
    details = copy.deepcopy(DETAILS)
    details["challenger"]["metrics"]["test"] |= {"ece": 0.1, "accuracy": 0.5}
    details["champion"]["metrics"]["test"] |= {"ece": 0.2333, "accuracy": 0.6222}
    source = write_report_without_pictures(tmp_path, details=details).read_text()
    assert '<span class="good">−0.1333</span>' in source and '<span class="bad">−0.1222</span>' in source


def test_slices_are_sorted_by_loss(tmp_path: Path) -> None:
    text = Read(write_report_without_pictures(tmp_path)).text
    assert text.index("label=refund") < text.index("length=short")
    alone = {**DETAILS, "champion": None, "slices": dict(reversed(DETAILS["slices"].items()))}
    text = Read(write_report_without_pictures(tmp_path, details=alone)).text
    assert text.index("label=refund") < text.index("length=short")


def test_a_changed_sentence_shows_only_the_words_that_differ(tmp_path: Path) -> None:
    row = {"input": "Ann lives in Rome", "target": "B-PER O O B-LOC", "champion": "B-PER O O B-LOC", "kind": "broken"}
    read = Read(
        write_report_without_pictures(
            tmp_path, details={**TAG_DETAILS, "changed": [{**row, "challenger": "B-PER O O O"}]}
        )
    )
    assert read.texts.count("Rome B-LOC") == 2 and read.texts.count("Rome O") == 1
    assert not any("Ann B-PER" in text for text in read.texts)


def test_the_most_frequent_confusions_come_first(tmp_path: Path) -> None:
    names = [f"label {number}" for number in range(20)]
    counts = np.diag(np.full(20, 30))
    counts[:, 0] += np.arange(20)
    details = {
        **DETAILS,
        "challenger": {**DETAILS["challenger"], "confusion": {"names": names, "counts": counts.tolist()}},
    }
    read = Read(write_report_without_pictures(tmp_path, details=details))
    listed = read.text[read.text.index("Most frequent confusions") :]
    assert re.findall(r"label (\d+)\s+label 0 ", listed) == [str(number) for number in range(19, 4, -1)]


@pytest.mark.slow
def test_the_page_of_many_classes_is_small(tmp_path: Path) -> None:
    details = details_of([f"a_long_name_of_class_{number}" for number in range(77)], rows=1540)
    row = {**details["changed"][0], "input": "ticket & text " * 36}
    path = write_report(tmp_path, details={**details, "changed": [row] * 40})
    assert Read(path).headings == SECTIONS
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("details", [DETAILS, TAG_DETAILS], ids=["classes", "tags"])
@pytest.mark.parametrize("compared", [True, False], ids=["champion", "alone"])
def test_every_row_of_a_table_fills_its_columns(tmp_path: Path, details: Json, compared: bool) -> None:
    source = write_report_without_pictures(
        tmp_path, details=details if compared else {**details, "champion": None}
    ).read_text()
    tables = re.findall(r"<table>(.*?)</table>", source, re.DOTALL)
    assert len(tables) >= 9
    for table in tables:
        head, *rows = (len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL))
        assert set(rows) == {head}


def test_on_a_phone_every_cell_of_a_wide_table_has_its_heading(tmp_path: Path) -> None:
    source = write_report_without_pictures(tmp_path).read_text()
    wide = [box for box in re.findall(r'<div class="box([^"]*)"', source) if "wide" in box]
    assert len(wide) >= 6
    assert '<td class="number" data-head="Precision">' in source
    assert not re.search(r"<td(?![^>]*data-head=)", source)


def test_tokens_of_the_splits_are_numbers_not_a_dictionary(tmp_path: Path) -> None:
    training = {"epochs": 2.0, "seconds": 4.0, "tokens": {"train": 1000, "test": 50}}
    read = Read(write_report_without_pictures(tmp_path, {**OUTCOME, "training": training}))
    text = " ".join(read.text.split())
    assert "train tokens 1,000" in text and "test tokens 50" in text and "train tokens a second 500" in text
    assert "{" not in text


def test_lineage_goes_back_to_the_source_files_and_cost_names_the_machine(tmp_path: Path) -> None:
    read = Read(write_report_without_pictures(tmp_path))
    assert {"tickets/9.csv", "439", "2026-03-02 to 2026-03-08", "d1", "3d10", "minilm", "ba5e", "AVX512"} <= {
        *read.texts
    }
    assert "1,200 more rows are from 3 older sources." in read.text and "README.md" in read.text
    assert "torch 2.13.0" in read.texts
    few = Read(write_report_without_pictures(tmp_path, origin={**ORIGIN, "others": {"sources": 0, "rows": 0}}))
    assert "older sources" not in few.text


def test_slices_and_classes_have_intervals_and_the_picture_of_classes_is_shown(tmp_path: Path) -> None:
    details = copy.deepcopy(DETAILS)
    details["slices"]["length=short"]["intervals"] = {
        "challenger": [0.9, 0.8123, 0.9712],
        "champion": [0.6, 0.5123, 0.7212],
    }
    details["champion"]["class_intervals"] = {"refund": [0.4321, 0.6543]}
    read = Read(write_report(tmp_path, details=details))
    assert {"0.8123 to 0.9712", "0.5123 to 0.7212", "0.4321 to 0.6543"} <= {*read.texts}
    assert sum("F1 by class" in (attributes.get("alt") or "") for _, attributes in read.tags) == 1


def test_drift_of_the_new_rows_is_shown_as_information_where_it_was_checked(tmp_path: Path) -> None:
    read = Read(write_report_without_pictures(tmp_path, origin={**ORIGIN, "drift": DRIFT}))
    assert "Drift found: p = 0.004: length. Compares 102 test rows that came since version 3" in read.text
    assert "it does not affect the decision, starts no retraining" in read.text and ": 9 <tokens>, 12 now" in read.texts
    assert "Drift of the new rows" not in Read(write_report_without_pictures(tmp_path)).text
