"""An argument of an expectation that has the wrong type is told before any row is read."""

import pytest

from evertune.config import Contract
from evertune.data.contract.custom import custom_expectations
from evertune.errors import ConfigError

REGEX = "expect_column_values_to_match_regex"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"column": None, "regex": "a"}, "0.column: no column None"),
        ({"column": 5, "regex": "a"}, "0.column: no column 5"),
        ({"column": "text", "regex": None}, "0.regex: None is not a text"),
        ({"column": "text", "regex": 5}, "0.regex: 5 is not a text"),
        ({"column": "text", "regex": "["}, "0.regex: '[' is not a regular expression"),
        ({"column": {"a": 1}, "regex": "a"}, "0.column: no column {'a': 1}"),
    ],
)
def test_it_is_a_config_error(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        custom_expectations(Contract(expectations=[{"type": REGEX, **arguments}]), ["text", "label"])
    assert words in str(raised.value)
