"""Build the recipe's own expectations, by their Great Expectations names, and validate them before any row is read."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from evertune.config import Contract
from evertune.config.row_condition import read_condition
from evertune.data.contract.expectations import Check, Explainer
from evertune.data.contract.great_expectations import silence_output
from evertune.data.contract.slow_regex import warn_of_slow
from evertune.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

NEEDS_DATABASE = {  # these compare query results; a batch is a data frame
    "unexpected_rows_expectation",
    "expect_query_results_to_match_comparison",
    "expect_table_row_count_to_equal_other_table",
}
PATTERN_ARGUMENTS = ("regex", "regex_list")
COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")


def custom_expectations(contract: Contract, columns: Sequence[str] | None = None) -> list[Check]:
    """Return the checks under `contract.expectations`.

    Args:
        contract: of the recipe.
        columns: of the frame, to find misspelt ones. Default: columns are not checked.
    Raises:
        ConfigError: names every unknown expectation, wrong argument and unknown column.
    """
    if not contract.expectations:
        return []
    implementations = _load_implementations()
    problems: list[str] = []
    checks = []
    for index, entry in enumerate(contract.expectations):
        location = f"contract.expectations.{index}"
        arguments = {key: value for key, value in entry.items() if key != "type"}
        name = _to_snake_case(str(entry.get("type", "")))
        entry_problems: list[str] = []
        if name not in implementations:
            entry_problems.append(f"{location}: {_describe_unknown(entry.get('type'), implementations)}")
        entry_problems += _find_wrong_patterns(location, arguments)
        entry_problems += _find_unknown_columns(location, arguments, columns)
        if entry_problems:
            problems += entry_problems
            continue
        result = _build_expectation(implementations[name], _with_safe_condition(arguments), f"{location}: {name}")
        warn_of_slow(location, arguments)
        if isinstance(result, list):
            problems += result
        else:
            checks.append(_make_check(result, name, arguments))
    if problems:
        raise ConfigError(problems)
    return checks


def _load_implementations() -> "dict[str, type[Expectation]]":
    with silence_output():
        import great_expectations.expectations  # noqa: F401  fills the registry
        from great_expectations.expectations import registry

        names = set(registry.list_registered_expectation_implementations()) - NEEDS_DATABASE
        return {name: registry.get_expectation_impl(name) for name in sorted(names)}


def _to_snake_case(name: str) -> str:
    """Return the name in snake case: `ExpectColumnMaxToBeBetween` is `expect_column_max_to_be_between`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _describe_unknown(name: object, implementations: Collection[str]) -> str:
    if not name:
        return "missing key type; give an expectation's name, such as expect_column_values_to_match_regex"
    if _to_snake_case(str(name)) in NEEDS_DATABASE:
        return f"{name} needs a database, but a batch is a data frame; choose another expectation"
    matches = difflib.get_close_matches(_to_snake_case(str(name)), list(implementations), 1, 0.5)
    hint = f"did you mean {matches[0]}?" if matches else "see the Great Expectations gallery for all names"
    return f"unknown expectation {name!r}; {hint}"


def _find_unknown_columns(location: str, arguments: Mapping[str, object], columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return []
    problems = [
        f"{location}.row_condition: no column {name!r}; expectations name columns by role: {', '.join(columns)}"
        for name in _condition_columns(arguments)
        if name not in columns and name != "index"
    ]
    for key in COLUMN_ARGUMENTS:
        if key not in arguments:
            continue
        value = arguments[key]
        for name in value if isinstance(value, (list, tuple, set)) else [value]:
            if name not in columns:
                problems.append(
                    f"{location}.{key}: no column {name!r}; expectations name columns by role: {', '.join(columns)}"
                )
    return problems


def _find_wrong_patterns(location: str, arguments: Mapping[str, object]) -> list[str]:
    """Return a problem for each pattern that is no regular expression; pandas would fail on it at the first row."""
    problems = []
    for key in PATTERN_ARGUMENTS:
        value = arguments.get(key, [])
        for pattern in value if isinstance(value, (list, tuple)) else [value]:
            if not isinstance(pattern, str):
                problems.append(f"{location}.{key}: {pattern!r} is not a text; put the regular expression in quotes")
                continue
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                problems.append(f"{location}.{key}: {pattern[:80]!r} is not a regular expression: {error}; mend it")
    return problems


def _condition_columns(arguments: Mapping[str, object]) -> tuple[str, ...]:
    condition = arguments.get("row_condition")
    return () if condition is None else read_condition(condition).columns


def _with_safe_condition(arguments: dict[str, object]) -> dict[str, object]:
    """Return the arguments with the condition in its parsed form: pandas would run any code in the original one."""
    condition = arguments.get("row_condition")
    if condition is None:
        return arguments
    return {**arguments, "row_condition": read_condition(condition).query, "condition_parser": "pandas"}


def _build_expectation(
    implementation: "type[Expectation]", arguments: Mapping[str, object], location: str
) -> "Expectation | list[str]":
    """Return the expectation, or a list of problems with its arguments."""
    from great_expectations.compatibility import pydantic

    try:
        with silence_output():
            return implementation(**arguments)
    except pydantic.ValidationError as error:
        messages = {".".join(str(part) for part in detail["loc"]): detail["msg"] for detail in reversed(error.errors())}
        allowed = ", ".join(sorted(set(implementation.__fields__) - {"id", "rendered_content", "windows", "batch_id"}))
        return [f"{location}: {name}: {message}; its arguments are {allowed}" for name, message in messages.items()]
    except (TypeError, ValueError) as error:
        return [f"{location}: {error}"]


def _make_check(instance: "Expectation", name: str, arguments: Mapping[str, object]) -> Check:
    from great_expectations.expectations import expectation

    kinds = (
        expectation.ColumnMapExpectation,
        expectation.ColumnPairMapExpectation,
        expectation.MulticolumnMapExpectation,
    )
    warn = str(arguments.get("severity", "critical")).lower() != "critical"
    explain = _make_explainer(name, arguments) if isinstance(instance, kinds) else None
    return Check(instance, name, explain, warn)


def _make_explainer(name: str, arguments: Mapping[str, object]) -> Explainer:
    """Return an explainer that gives every failing row the same reason: columns, name and arguments."""
    pair = [str(arguments[key]) for key in ("column_A", "column_B") if arguments.get(key)]
    listed = cast("Sequence[str]", arguments.get("column_list", []))
    subject = arguments.get("column") or " and ".join([*pair, *map(str, listed)])
    hidden = {*COLUMN_ARGUMENTS, "severity"}
    details = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key not in hidden)

    def explain(rows: "pd.DataFrame") -> list[str]:
        return [f"{subject}: fails {name}({details})"] * len(rows)

    return explain
