"""The recipe's own expectations refuse, stop, warn, and are checked before any row is read."""

from pathlib import Path
from typing import Any

import pytest

from evertune.data.contract.judge import custom_expectations
from evertune.errors import ConfigError
from tests.helpers.contract import GOOD, check, check_as_batch, make_rows, stop_message
from tests.helpers.data import keyed_rows, make_recipe


def test_the_recipes_own_expectations(tmp_path: Path) -> None:
    rows = [*GOOD, *make_rows([("visit http://example.org now", "card")])]
    url = {"type": "expect_column_values_to_not_match_regex", "column": "text", "regex": "https?://"}
    verdicts = check(tmp_path, rows, contract={"expectations": [url]})
    assert verdicts.reasons == {"expect_column_values_to_not_match_regex": 1}
    reason = "text: fails expect_column_values_to_not_match_regex(regex='https?://')"
    assert verdicts.refused["reasons"].to_pylist() == [[reason]]
    warned = check(tmp_path, rows, contract={"expectations": [{**url, "severity": "warning"}]})
    assert (warned.refused.num_rows, len(warned.warnings)) == (0, 1)
    assert "failed on 1 row" in warned.warnings[0]
    mostly = check(tmp_path, rows, contract={"expectations": [{**url, "mostly": 0.9}]})
    assert mostly.refused.num_rows == 0


def test_an_expectation_on_the_whole_batch_stops_it_or_warns(tmp_path: Path) -> None:
    many = {"type": "ExpectTableRowCountToBeBetween", "min_value": 1000}
    message = stop_message(tmp_path, GOOD, contract={"expectations": [many]})
    assert "expect_table_row_count_to_be_between(min_value=1000" in message
    typed = {"type": "expect_column_values_to_be_in_type_list", "column": "text", "type_list": ["int64"]}
    message = stop_message(tmp_path, GOOD, contract={"expectations": [typed]})
    assert "expect_column_values_to_be_in_type_list(column='text'" in message
    recipe = make_recipe(tmp_path, contract={"expectations": [{**many, "severity": "warning"}]})
    assert len(check_as_batch(keyed_rows(recipe, GOOD), recipe, ()).warnings) == 1


@pytest.mark.parametrize(
    ("expectation", "expected"),
    [
        (
            {"type": "expect_column_values_to_match_regexp", "column": "text"},
            "did you mean expect_column_values_to_match_regex?",
        ),
        ({"column": "text"}, "contract.expectations.0: missing key type"),
        ({"type": "expect_column_pair_values_to_be_equal", "column_A": "text"}, "column_B: field required"),
        ({"type": "ExpectColumnValuesToBeUnique", "column": "text", "regx": "a"}, "regx: extra fields not permitted"),
        ({"type": "UnexpectedRowsExpectation", "unexpected_rows_query": "x"}, "needs a database"),
        (
            {"type": "expect_column_values_to_be_unique", "column": "message"},
            "no column 'message'; expectations name columns by role",
        ),
    ],
)
def test_a_wrong_expectation_is_a_config_error(tmp_path: Path, expectation: dict[str, Any], expected: str) -> None:
    recipe = make_recipe(tmp_path, contract={"expectations": [expectation, {"type": "nonsense"}]})
    with pytest.raises(ConfigError) as error:
        custom_expectations(recipe.contract, ["text", "label"])
    assert expected in str(error.value)
    assert "contract.expectations.1: unknown expectation 'nonsense'" in str(error.value)


def test_an_expectation_that_cannot_run_is_a_config_error(tmp_path: Path) -> None:
    expectation = {"type": "expect_column_mean_to_be_between", "column": "text", "min_value": 1}
    with pytest.raises(
        ConfigError, match=r"contract\.expectations\.0: expect_column_mean_to_be_between cannot be checked"
    ):
        check(tmp_path, GOOD, contract={"expectations": [expectation]})
