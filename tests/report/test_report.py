"""The report page: whole without the network, safe with any text, right where data are missing."""

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
    HISTORY,
    ORIGIN,
    OUTCOME,
    SECTIONS,
    TAG_DETAILS,
    Json,
    Read,
    details_of,
    made,
    undrawn,
    without,
)

HOSTILE = ["<b>", "</td><script>", "\" onload='", "&lt;", "]]>", "<!--"]


@pytest.mark.parametrize("details", [DETAILS, TAG_DETAILS], ids=["classes", "tags"])
def test_page_has_every_section_in_order(tmp_path: Path, details: Json) -> None:
    assert Read(made(tmp_path, details=details)).headings == SECTIONS


def test_page_opens_with_the_decision_its_colour_and_its_reason(tmp_path: Path) -> None:
    for decision in ("promoted", "held", "rejected", "unchanged"):
        read = Read(undrawn(tmp_path, {**OUTCOME, "decision": decision}))
        assert next(attributes["class"] for tag, attributes in read.tags if tag == "header") == f"hero {decision}"
        assert f"{decision.capitalize()} : better by 3.1 points" in read.text


def test_groups_stand_beside_the_rows_where_some_rows_stand_together(tmp_path: Path) -> None:
    tests = [{**one, "groups": groups} for one, groups in zip(OUTCOME["evidence"], (60, 1240), strict=False)]
    read = Read(undrawn(tmp_path, {**OUTCOME, "evidence": tests}))
    assert "312 in 60 groups" in " ".join(read.text.split()) and "in 1,240 groups" not in read.text


def test_page_is_self_contained(tmp_path: Path) -> None:
    path = made(tmp_path)
    read = Read(path)
    source = path.read_text()
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    links = [attributes[key] for _, attributes in read.tags for key in ("src", "href", "srcset") if key in attributes]
    assert all(link and link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert "url(" not in source and "@import" not in source and "://" not in source


def test_every_link_in_the_page_leads_to_a_section(tmp_path: Path) -> None:
    read = Read(made(tmp_path))
    anchors = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert {attributes["href"] for tag, attributes in read.tags if tag == "a"} == {f"#{name}" for name in anchors}


@pytest.mark.parametrize(
    ("missing", "section"),
    [("evidence", "Evidence"), ("seconds", "Cost")],
)
def test_sections_without_an_outcome_of_theirs_are_left_out(tmp_path: Path, missing: str, section: str) -> None:
    assert Read(made(tmp_path, without(OUTCOME, missing))).headings == [one for one in SECTIONS if one != section]


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
def test_sections_without_details_of_theirs_are_left_out(tmp_path: Path, missing: str, section: str) -> None:
    read = Read(made(tmp_path, details=without(DETAILS, missing)))
    assert read.headings == [one for one in SECTIONS if one != section]


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
    read = Read(made(tmp_path, outcome, {}, []))
    assert read.headings == ["Data", "Lineage"]
    assert "text: too short" in read.text


def test_page_without_a_champion_compares_with_nothing(tmp_path: Path) -> None:
    details = {**copy.deepcopy(DETAILS), "champion": None, "changed": []}
    for one in details["slices"].values():
        one["champion"] = None
    read = Read(made(tmp_path, {**OUTCOME, "evidence": []}, details))
    assert read.headings == [one for one in SECTIONS if one not in {"Evidence", "Changed rows"}]
    assert "Change" not in read.texts and "Champion" not in read.texts


def test_page_with_an_empty_history_has_no_loss_curve(tmp_path: Path) -> None:
    assert "loss_curve" not in draw_pictures(tmp_path, DETAILS, [])
    read = Read(made(tmp_path, {**OUTCOME, "training": {}}, history=[]))
    assert read.headings == [one for one in SECTIONS if one != "Training"]


def strings(value: Any, replacement: str) -> Any:
    """The same tree with every text from outside, keys of data included, turned into the replacement."""
    kept = {"test", "decision", "kind", "metric"}
    named = {"per_class", "per_tag", "slices", "reasons", "seconds", "training"}
    if isinstance(value, dict):
        return {
            key: one if key in kept else keyed(one, replacement) if key in named else strings(one, replacement)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [strings(one, replacement) for one in value]
    return replacement if isinstance(value, str) else value


def keyed(value: Json, replacement: str) -> Json:
    return {f"{replacement}{place}": strings(one, replacement) for place, one in enumerate(value.values())}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(HOSTILE))
def test_no_text_changes_the_structure_of_the_page(tmp_path: Path, text: str) -> None:
    harmless, other = (Read(undrawn(tmp_path, strings(OUTCOME, one), strings(DETAILS, one))) for one in ("a", text))
    assert other.structure() == harmless.structure()


def test_texts_of_rows_and_labels_stand_in_the_page_as_they_are(tmp_path: Path) -> None:
    text = "<script>alert('1 & 2')</script> \"quoted\""
    details = {**DETAILS, "changed": [{**row, "input": text} for row in DETAILS["changed"]]}
    read = Read(undrawn(tmp_path, {**OUTCOME, "reason": text, "run_id": text}, details))
    assert read.texts.count(text) == 3 and f": {text}" in read.texts


def numbers(value: Any, choices: Iterator[float | None]) -> Any:
    """The same tree with some of its numbers missing or not a number; counts and steps are kept."""
    if isinstance(value, dict):
        return {
            key: one if key in {"counts", "step", "rows", "names", "leaked"} else numbers(one, choices)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [numbers(one, choices) for one in value]
    if not isinstance(value, float):
        return value
    choice = next(choices)
    return value if choice == 0 else choice


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=st.lists(st.sampled_from([0.0, None, math.nan, math.inf]), min_size=1, max_size=7), tags=st.booleans())
def test_what_is_no_number_is_a_dash(tmp_path: Path, choices: list[float | None], tags: bool) -> None:
    drawn = itertools.cycle(choices)
    outcome, details, history = (numbers(one, drawn) for one in (OUTCOME, TAG_DETAILS if tags else DETAILS, HISTORY))
    read = Read(made(tmp_path, outcome, details, history))
    assert not re.search(r"\b(nan|inf|None|null)\b", read.text, re.IGNORECASE)
    assert "–" in read.texts


def test_numbers_have_at_most_four_decimals(tmp_path: Path) -> None:
    read = Read(undrawn(tmp_path))
    assert "+0.0312" in read.texts
    assert not re.search(r"\d\.\d{5}", read.text)


def test_a_falling_calibration_error_is_good_and_a_falling_score_is_bad(tmp_path: Path) -> None:
    details = copy.deepcopy(DETAILS)
    details["challenger"]["metrics"]["test"] |= {"ece": 0.1, "accuracy": 0.5}
    details["champion"]["metrics"]["test"] |= {"ece": 0.2333, "accuracy": 0.6222}
    source = undrawn(tmp_path, details=details).read_text()
    assert '<span class="good">−0.1333</span>' in source and '<span class="bad">−0.1222</span>' in source


def test_slices_are_sorted_by_loss(tmp_path: Path) -> None:
    text = Read(undrawn(tmp_path)).text
    assert text.index("label=refund") < text.index("length=short")
    alone = {**DETAILS, "champion": None, "slices": dict(reversed(DETAILS["slices"].items()))}
    text = Read(undrawn(tmp_path, details=alone)).text
    assert text.index("label=refund") < text.index("length=short")


def test_a_changed_sentence_shows_only_the_words_that_differ(tmp_path: Path) -> None:
    row = {"input": "Ann lives in Rome", "target": "B-PER O O B-LOC", "champion": "B-PER O O B-LOC", "kind": "broken"}
    read = Read(undrawn(tmp_path, details={**TAG_DETAILS, "changed": [{**row, "challenger": "B-PER O O O"}]}))
    assert read.texts.count("Rome B-LOC") == 2 and read.texts.count("Rome O") == 1
    assert not any("Ann B-PER" in one for one in read.texts)


def test_the_most_frequent_confusions_come_first(tmp_path: Path) -> None:
    names = [f"label {number}" for number in range(20)]
    counts = np.diag(np.full(20, 30))
    counts[:, 0] += np.arange(20)
    details = {
        **DETAILS,
        "challenger": {**DETAILS["challenger"], "confusion": {"names": names, "counts": counts.tolist()}},
    }
    read = Read(undrawn(tmp_path, details=details))
    listed = read.text[read.text.index("Most frequent confusions") :]
    assert re.findall(r"label (\d+)\s+label 0 ", listed) == [str(number) for number in range(19, 4, -1)]


def test_the_page_of_many_classes_is_small(tmp_path: Path) -> None:
    details = details_of([f"a_long_name_of_class_{number}" for number in range(77)], rows=1540)
    row = {**details["changed"][0], "input": "ticket & text " * 36}
    path = made(tmp_path, details={**details, "changed": [row] * 40})
    assert Read(path).headings == SECTIONS
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("details", [DETAILS, TAG_DETAILS], ids=["classes", "tags"])
@pytest.mark.parametrize("compared", [True, False], ids=["champion", "alone"])
def test_every_row_of_a_table_fills_its_columns(tmp_path: Path, details: Json, compared: bool) -> None:
    source = undrawn(tmp_path, details=details if compared else {**details, "champion": None}).read_text()
    tables = re.findall(r"<table>(.*?)</table>", source)
    assert len(tables) >= 9
    for table in tables:
        head, *rows = (len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr>(.*?)</tr>", table))
        assert set(rows) == {head}


def test_on_a_phone_every_cell_of_a_wide_table_has_its_heading(tmp_path: Path) -> None:
    source = undrawn(tmp_path).read_text()
    wide = [box for box in re.findall(r'<div class="box([^"]*)".*?</div>', source) if "wide" in box]
    assert len(wide) >= 6
    assert '<td class="number" data-head="Precision">' in source
    assert not re.search(r"<td(?![^>]*data-head=)", source)


def test_tokens_of_the_splits_are_numbers_not_a_dictionary(tmp_path: Path) -> None:
    training = {"epochs": 2.0, "seconds": 4.0, "tokens": {"train": 1000, "test": 50}}
    read = Read(undrawn(tmp_path, {**OUTCOME, "training": training}))
    text = " ".join(read.text.split())
    assert "train tokens 1,000" in text and "test tokens 50" in text and "train tokens a second 500" in text
    assert "{" not in text


def test_lineage_goes_back_to_the_source_files_and_cost_names_the_machine(tmp_path: Path) -> None:
    read = Read(undrawn(tmp_path))
    assert {"tickets/9.csv", "439", "2026-03-02 to 2026-03-08", "d1", "3d10", "minilm", "ba5e", "AVX512"} <= {
        *read.texts
    }
    assert "1,200 more rows are from 3 older sources." in read.text and "README.md" in read.text
    assert "torch 2.13.0" in read.texts
    few = Read(undrawn(tmp_path, origin={**ORIGIN, "others": {"sources": 0, "rows": 0}}))
    assert "older sources" not in few.text


def test_slices_and_classes_have_intervals_and_the_picture_of_classes_is_shown(tmp_path: Path) -> None:
    details = copy.deepcopy(DETAILS)
    details["slices"]["length=short"]["intervals"] = {
        "challenger": [0.9, 0.8123, 0.9712],
        "champion": [0.6, 0.5123, 0.7212],
    }
    details["champion"]["class_intervals"] = {"refund": [0.4321, 0.6543]}
    read = Read(made(tmp_path, details=details))
    assert {"0.8123 to 0.9712", "0.5123 to 0.7212", "0.4321 to 0.6543"} <= {*read.texts}
    assert sum("F1 of each class" in (attributes.get("alt") or "") for _, attributes in read.tags) == 1


def test_drift_of_the_new_rows_is_told_as_information_where_there_was_a_look(tmp_path: Path) -> None:
    finding = {
        "test": "length",
        "statistic": 0.2,
        "usual": 0.1,
        "p": 0.001,
        "adjusted": 0.004,
        "found": True,
        "words": "9 <tokens>, 12 now",
    }
    found = {
        "drifted": True,
        "reason": "p = 0.004: length",
        "p": 0.004,
        "level": 0.05,
        "version": 3,
        "rows": {"reference": 400, "current": 102},
        "findings": [finding],
    }
    read = Read(undrawn(tmp_path, origin={**ORIGIN, "drift": found}))
    assert "They are of another kind: p = 0.004: length. 102 test rows that came since version 3" in read.text
    assert "it decided nothing, no trigger hears of it" in read.text and ": 9 <tokens>, 12 now" in read.texts
    assert "Drift of the new rows" not in Read(undrawn(tmp_path)).text
