"""A recipe's expectations are data: none of their arguments runs code, reads a file or asks another machine."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from evertune.config.data import Contract
from evertune.data.contract.custom import custom_expectations
from evertune.data.contract.great_expectations import Runner, write_data_docs
from evertune.data.contract.slow_regex import is_slow
from evertune.errors import ConfigError
from tests.helpers.contract import GOOD, check, make_rows

NOT_NULL = {"type": "expect_column_values_to_not_be_null", "column": "label"}
SCHEMA = {"type": "expect_column_values_to_match_json_schema", "column": "text"}
MARKUP = "\"'><img src=q onerror=alert(1)>"


@pytest.fixture
def address() -> Iterator[tuple[str, list[str]]]:
    """A page of this machine, and who asked for it."""
    requests: list[str] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/schema", requests
    server.shutdown()


def run(*expectations: dict[str, Any], frame: pd.DataFrame) -> Any:
    checks = custom_expectations(Contract(expectations=list(expectations)), list(frame.columns))
    return Runner([check.expectation for check in checks]).check_frame(frame), checks


def test_a_condition_of_a_stranger_runs_nothing(tmp_path: Path) -> None:
    attack = f"@pd.io.common.os.system('touch {tmp_path}/ran') == 0"
    mappings = [
        {"type": "pass_through", "pass_through_filter": attack},
        {"type": "nullity", "column": {"name": f"text` == 1 or {attack} or `text"}, "is_null": True},
    ]
    for condition in (attack, f'col("text` == 1 or {attack} or `text") > 1', *mappings):
        for parser in ("pandas", "great_expectations", None):
            with pytest.raises(ConfigError, match=r"contract\.expectations\.0: row_condition: "):
                check(
                    tmp_path,
                    GOOD,
                    contract={
                        "expectations": [{**NOT_NULL, "row_condition": condition, "condition_parser": parser}],
                    },
                )
    assert not (tmp_path / "ran").exists()


def test_great_expectations_gets_the_condition_as_it_was_understood() -> None:
    expectation = {**NOT_NULL, "row_condition": 'text == "it\'s `x` @y"', "condition_parser": "pandas"}
    (check,) = custom_expectations(Contract(expectations=[expectation]), ["text", "label"])
    condition = check.expectation.row_condition.pass_through_filter
    assert condition == r"(text == 'it\U00000027s \U00000060x\U00000060 \U00000040y')"


@pytest.mark.parametrize("parser", ["pandas", "great_expectations", None])
@pytest.mark.parametrize(
    "condition", ['label == "card"', 'col("label") == "card"', "text.notnull() & label in ['card']"]
)
def test_a_harmless_condition_chooses_its_rows(tmp_path: Path, condition: str, parser: str | None) -> None:
    short = {"type": "expect_column_value_lengths_to_be_between", "column": "text", "max_value": 5}
    expectation = {**short, "row_condition": condition, "condition_parser": parser}
    rows = make_rows(
        [("short", "card"), ("too long for it", "card"), ("as long as this", "refund"), ("tiny", "refund")]
    )
    verdicts = check(tmp_path, rows, contract={"expectations": [expectation], "label": {"values": ["card", "refund"]}})
    assert verdicts.refused["text"].to_pylist() == ["too long for it"]


def test_a_condition_on_an_unknown_column_is_a_config_error() -> None:
    expectation = {**NOT_NULL, "row_condition": "message == 'x' and index > 3"}
    with pytest.raises(ConfigError, match=r"contract\.expectations\.0\.row_condition: no column 'message'"):
        custom_expectations(Contract(expectations=[expectation]), ["text", "label"])


@pytest.mark.parametrize("name", ["$ref", "$dynamicRef"])
def test_a_schema_reads_no_file_and_no_page(address: tuple[str, list[str]], tmp_path: Path, name: str) -> None:
    page, requests = address
    (tmp_path / "schema.json").write_text("{}")
    for target in (f"{page}s", f"{page}s#/a", (tmp_path / "schema.json").as_uri(), "other.json", ""):
        for schema in ({name: target}, {"$id": page, "properties": {"a": {"items": [{name: target + "x"}]}}}):
            with pytest.raises(ValidationError, match=r"expectations\.0\n.*json_schema: .*is not allowed"):
                Contract(expectations=[{**SCHEMA, "json_schema": schema}])
    named = {"$schema": page, "$id": page, "type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}}
    frame = pd.DataFrame({"text": ['{"a": 1}', '{"a": "b"}']})
    schema = {**named, "$defs": {"n": {"type": "integer"}}}
    findings, _checks = run({**SCHEMA, "json_schema": schema}, frame=frame)
    assert (findings[0].problem, list(findings[0].rows)) == (None, [1])
    assert requests == []


def test_a_sum_that_takes_hours_is_refused() -> None:
    most = {"type": "expect_column_max_to_be_between", "column": "n"}
    for text in ("9^9^9", "2^99999", "2^x", "(9^9)^9", "9^(9)"):
        with pytest.raises(ValidationError, match=r"max_value: \$PARAMETER: "):
            Contract(expectations=[{**most, "max_value": {"$PARAMETER": text}}])
    findings, _checks = run({**most, "max_value": {"$PARAMETER": "1 + 2^2"}}, frame=pd.DataFrame({"n": [4, 5]}))
    assert findings[0].success


def test_a_pattern_that_can_take_hours_is_told(caplog: pytest.LogCaptureFixture) -> None:
    slow = ("^(a+)+$", "(a*)*", r"([a-z]+\d*)*x", r"(?:(\w+))+!", "(a+?){10,}")
    quick = ("https?://", r"(\w+\s)+", "(a|b)+", r"(\d{1,3}\.){3}", "(a+)?", "[a+]+", "(", "(ab+c)*")
    assert [pattern for pattern in (*slow, *quick) if is_slow(pattern)] == list(slow)
    expectation = {"type": "expect_column_values_to_match_regex_list", "column": "text", "regex_list": ["a", "^(b+)+$"]}
    for _time in range(2):
        custom_expectations(Contract(expectations=[expectation]))
    (message,) = caplog.messages
    assert message.startswith("contract.expectations.0.regex_list: '^(b+)+$' nests repeats, which can take hours on")


def test_the_data_docs_show_rows_and_words_as_text(tmp_path: Path) -> None:
    kinds = [
        {"type": "expect_column_values_to_be_in_set", "value_set": [f"b{MARKUP}"]},
        {"type": "expect_column_distinct_values_to_be_in_set", "value_set": ["b"]},
        {"type": "expect_column_values_to_match_regex", "regex": f"^{MARKUP}"},
        {"type": "expect_column_values_to_match_strftime_format", "strftime_format": f"%Y{MARKUP}"},
        {"type": "expect_column_values_to_be_of_type", "type_": f"int{MARKUP}"},
    ]
    words = {"column": "text", "description": f"d{MARKUP}", "notes": f"n{MARKUP}", "meta": {"notes": f"m{MARKUP}"}}
    frame = pd.DataFrame({"text": [f"a{MARKUP}", f"c{MARKUP}", None]})
    findings, checks = run(*({**kind, **words} for kind in kinds), frame=frame)
    write_data_docs(findings, [check.expectation for check in checks], tmp_path / "docs")
    pages = [page.read_text(encoding="utf-8") for page in (tmp_path / "docs").rglob("*.html")]
    assert len(pages) >= 3
    assert [page for page in pages if "<img src=q" in page] == []
    assert any("&lt;img src=q" in page for page in pages)
    assert findings[0].result.result["partial_unexpected_list"][0] == f"a{MARKUP}"  # what others read stays as it is
