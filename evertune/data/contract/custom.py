"""The recipe's own expectations: Great Expectations by their own names, checked before any row is read."""

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evertune.config import Contract
from evertune.config.row_condition import read_condition
from evertune.data.contract.expectations import Check, Say
from evertune.data.contract.great_expectations import quiet
from evertune.data.contract.slow_regex import warn_of_slow
from evertune.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

NEEDS_DATABASE = {  # these compare query results; a batch is a data frame
    "unexpected_rows_expectation",
    "expect_query_results_to_match_comparison",
    "expect_table_row_count_to_equal_other_table",
}
COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")


def custom_expectations(contract: Contract, columns: Sequence[str] | None = None) -> list[Check]:
    """The checks under `contract.expectations`.

    Args:
        columns: those that there are, to find a misspelt one. Default: not checked.
    Raises:
        ConfigError: with every unknown name, wrong argument and unknown column.
    """
    if not contract.expectations:
        return []
    known = _known()
    problems: list[str] = []
    checks = []
    for place, given in enumerate(contract.expectations):
        where = f"contract.expectations.{place}"
        arguments = {key: value for key, value in given.items() if key != "type"}
        name = _snake(str(given.get("type", "")))
        found = [f"{where}: {_unknown(given.get('type'), known)}"] if name not in known else []
        found += _unknown_columns(where, arguments, columns)
        if not found:
            made = _made(known[name], _with_safe_condition(arguments), f"{where}: {name}")
            found = made if isinstance(made, list) else []
            warn_of_slow(where, arguments)
            checks += [] if isinstance(made, list) else [_check(made, name, arguments)]
        problems += found
    if problems:
        raise ConfigError(problems)
    return checks


def _known() -> dict[str, Any]:
    with quiet():
        import great_expectations.expectations  # noqa: F401  fills the registry
        from great_expectations.expectations import registry

        names = set(registry.list_registered_expectation_implementations()) - NEEDS_DATABASE
        return {name: registry.get_expectation_impl(name) for name in sorted(names)}


def _snake(name: str) -> str:
    """`ExpectColumnValuesToMatchRegex` and `expect_column_values_to_match_regex` are one name."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _unknown(name: Any, known: dict[str, Any]) -> str:
    if not name:
        return "missing key type; give an expectation's name, such as expect_column_values_to_match_regex"
    if _snake(str(name)) in NEEDS_DATABASE:
        return f"{name} needs a database, and a batch is a data frame; choose another expectation"
    near = difflib.get_close_matches(_snake(str(name)), list(known), 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else "see the Great Expectations gallery for the names that there are"
    return f"unknown expectation {name!r}; {hint}"


def _unknown_columns(where: str, arguments: dict[str, Any], columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return []
    problems = [
        f"{where}.row_condition: no column {name!r}; columns go by role here: {', '.join(columns)}"
        for name in _condition_columns(arguments)
        if name not in columns and name != "index"
    ]
    for key in COLUMN_ARGUMENTS:
        value = arguments.get(key, [])
        for name in [value] if isinstance(value, str) else value:
            if name not in columns:
                problems.append(f"{where}.{key}: no column {name!r}; columns go by role here: {', '.join(columns)}")
    return problems


def _condition_columns(arguments: dict[str, Any]) -> tuple[str, ...]:
    condition = arguments.get("row_condition")
    return () if condition is None else read_condition(condition).columns


def _with_safe_condition(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the condition as it was understood: pandas would run whatever stands in the given one."""
    condition = arguments.get("row_condition")
    if condition is None:
        return arguments
    return {**arguments, "row_condition": read_condition(condition).query, "condition_parser": "pandas"}


def _made(kind: Any, arguments: dict[str, Any], where: str) -> Any:
    """The expectation, or the list of problems with its arguments."""
    from great_expectations.compatibility import pydantic

    try:
        with quiet():
            return kind(**arguments)
    except pydantic.ValidationError as error:
        found = {".".join(str(part) for part in one["loc"]): one["msg"] for one in reversed(error.errors())}
        allowed = ", ".join(sorted(set(kind.__fields__) - {"id", "rendered_content", "windows", "batch_id"}))
        return [f"{where}: {name}: {message}; its arguments are {allowed}" for name, message in found.items()]
    except (TypeError, ValueError) as error:
        return [f"{where}: {error}"]


def _check(made: Any, name: str, arguments: dict[str, Any]) -> Check:
    from great_expectations.expectations import expectation

    kinds = (
        expectation.ColumnMapExpectation,
        expectation.ColumnPairMapExpectation,
        expectation.MulticolumnMapExpectation,
    )
    warn = str(arguments.get("severity", "critical")).lower() != "critical"
    say = _say(name, arguments) if isinstance(made, kinds) else None
    return Check(made, name, say, warn)


def _say(name: str, arguments: dict[str, Any]) -> Say:
    shown = {key: value for key, value in arguments.items() if key not in COLUMN_ARGUMENTS and key != "severity"}
    about = arguments.get("column") or " and ".join(
        [*filter(None, (arguments.get("column_A"), arguments.get("column_B"))), *arguments.get("column_list", [])]
    )
    details = ", ".join(f"{key}={value!r}" for key, value in shown.items())

    def say(rows: "pd.DataFrame") -> list[str]:
        return [f"{about}: fails {name}({details})"] * len(rows)

    return say
