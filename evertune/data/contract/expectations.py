"""Build the contract's checks as expectations of Great Expectations, each with the reasons that it gives."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.config.data import Bounds
from evertune.data.contract.frame import AllowedLabels
from evertune.data.contract.text_damage import CONTROL, DAMAGE, SIGN, find_first
from evertune.data.row_versions import list_roles
from evertune.objectives import load_objective

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

WRITTEN = ("string", "strings", "labels")  # kinds of columns that hold text
Explainer = Callable[["pd.DataFrame"], list[str]]


@dataclass(frozen=True)
class Check:
    """An expectation, and what follows if it fails.

    Args:
        expectation: of Great Expectations.
        kind: class of the reason, under which refused rows are counted.
        explain: returns the reason of each row from the failing rows of the frame; None for a check of the batch.
        warn: report only, refuse nothing.
    """

    expectation: "Expectation"
    kind: str
    explain: Explainer | None
    warn: bool = False


def build_contract_checks(recipe: Recipe, permitted: AllowedLabels, columns: list[str]) -> list[Check]:
    """Return the built-in checks of the recipe's contract.

    Args:
        recipe: has the contract.
        permitted: values of the label.
        columns: those of the frame.
    """
    objective = load_objective(recipe.objective.type)
    column_kinds = objective.COLUMNS
    checks: list[Check] = []
    for role in list_roles(recipe):
        if role in column_kinds or role == "id":
            checks += _require_present(role, recipe.column(role))
        if column_kinds.get(role) in WRITTEN and recipe.contract.characters == "refuse":
            checks += _refuse_damage(role, recipe.column(role))
    for role in objective.INPUTS:
        if column_kinds[role] in WRITTEN:
            is_text = column_kinds[role] == "string"
            bounds = recipe.contract.text if is_text else recipe.contract.tokens
            checks += _limit_lengths(role, recipe.column(role), bounds, is_text)
    if objective.LABELED:
        checks += LABELS[column_kinds[objective.TARGET]](objective.TARGET, recipe, permitted)
    return [*checks, *_check_problem_columns(recipe, columns)]


def _require_present(role: str, column: str) -> list[Check]:
    import great_expectations.expectations as gxe

    return [
        Check(gxe.ExpectColumnValuesToNotBeNull(column=role), f"missing {role}", _explain_fixed(f"{column}: missing")),
    ]


def _refuse_damage(role: str, column: str) -> list[Check]:
    import great_expectations.expectations as gxe

    damage = gxe.ExpectColumnValuesToNotMatchRegex(column=role, regex=DAMAGE)
    control = gxe.ExpectColumnValuesToNotMatchRegex(column=role, regex=CONTROL)
    return [
        Check(
            damage,
            "encoding damage",
            _explain_each(role, lambda text: f"{column}: damaged encoding, {find_first(DAMAGE, text)!r}"),
        ),
        Check(
            control,
            "control character",
            _explain_each(role, lambda text: f"{column}: control character {find_first(CONTROL, text)}"),
        ),
    ]


def _limit_lengths(role: str, column: str, bounds: Bounds, is_text: bool) -> list[Check]:
    import great_expectations.expectations as gxe

    unit = "characters" if is_text else "words"
    measured_column = role if is_text else f"{role.removesuffix('s')}_count"
    length_expectation = gxe.ExpectColumnValueLengthsToBeBetween if is_text else gxe.ExpectColumnValuesToBeBetween
    too_long = length_expectation(column=measured_column, max_value=bounds.max_length)
    checks = [Check(too_long, f"{role} too long", _explain_fixed(f"{column}: longer than {bounds.max_length} {unit}"))]
    if bounds.min_length > 0:
        not_empty = gxe.ExpectColumnValuesToMatchRegex(column=role, regex=SIGN)
        checks.append(Check(not_empty, f"empty {role}", _explain_fixed(f"{column}: empty")))
    if bounds.min_length > 1:
        too_short = length_expectation(column=measured_column, min_value=bounds.min_length)
        checks.append(
            Check(too_short, f"{role} too short", _explain_fixed(f"{column}: shorter than {bounds.min_length} {unit}"))
        )
    return checks


def _check_string_label(role: str, recipe: Recipe, permitted: AllowedLabels) -> list[Check]:
    import great_expectations.expectations as gxe

    column = recipe.column(role)
    reason = _describe_not_allowed(recipe, permitted, "label")
    in_set = gxe.ExpectColumnValuesToBeInSet(column=role, value_set=permitted.values)
    return [Check(in_set, reason[0], _explain_each(role, lambda value: f"{column}: {value!r} {reason[1]}"))]


def _check_tags(role: str, recipe: Recipe, permitted: AllowedLabels) -> list[Check]:
    import great_expectations.expectations as gxe

    input_role = load_objective(recipe.objective.type).INPUTS[0]
    word_column = f"{input_role.removesuffix('s')}_count"
    tag_column = f"{role.removesuffix('s')}_count"
    same_length = gxe.ExpectColumnPairValuesToBeEqual(
        column_A=word_column, column_B=tag_column, ignore_row_if="either_value_is_missing"
    )
    no_unknown_tag = gxe.ExpectColumnValuesToBeNull(column="unknown_tag")
    column = recipe.column(role)
    reason = _describe_not_allowed(recipe, permitted, "tag")

    def explain(rows: "pd.DataFrame") -> list[str]:
        counts = zip(rows[word_column].tolist(), rows[tag_column].tolist(), strict=True)
        return [
            f"{recipe.column(input_role)}: {int(word_count)} words, but {int(tag_count)} {column}"
            for word_count, tag_count in counts
        ]

    return [
        Check(same_length, "word and tag counts differ", explain),
        Check(
            no_unknown_tag, reason[0], _explain_each("unknown_tag", lambda value: f"{column}: {value!r} {reason[1]}")
        ),
    ]


def _check_label_set(role: str, recipe: Recipe, permitted: AllowedLabels) -> list[Check]:
    import great_expectations.expectations as gxe

    no_unknown_label = gxe.ExpectColumnValuesToBeNull(column="unknown_tag")
    column = recipe.column(role)
    reason = _describe_not_allowed(recipe, permitted, "label")
    return [
        Check(
            no_unknown_label, reason[0], _explain_each("unknown_tag", lambda value: f"{column}: {value!r} {reason[1]}")
        )
    ]


def _describe_not_allowed(recipe: Recipe, permitted: AllowedLabels, noun: str) -> tuple[str, str]:
    """Return class and wording of the reason for a value that is not allowed."""
    if permitted.inferred:
        min_rows = recipe.contract.label.min_rows
        return f"rare {noun}", f"appears in fewer than {min_rows} rows (contract.label.min_rows)"
    count = len(permitted.values)
    if count == 1:
        return f"unknown {noun}", f"is not the only known {noun}"
    return f"unknown {noun}", f"is not one of the {count} known {noun}s"


def _check_problem_columns(recipe: Recipe, columns: list[str]) -> list[Check]:
    """Return checks of the frame's columns that name a row's problem."""
    import great_expectations.expectations as gxe

    input_role = load_objective(recipe.objective.type).INPUTS[0]
    problem_columns = {
        "row_problem": ("row that makes no sense", "", "{}"),  # its text names the column
        "timestamp_problem": ("unreadable timestamp", recipe.column("timestamp"), "{!r} is not a date or time"),
        "future": ("timestamp in the future", recipe.column("timestamp"), "{}"),
        "duplicate_id": ("duplicate id", recipe.column("id"), "{}"),
        "two_labels": ("two labels for one input", recipe.column(input_role), "{}"),
    }
    for role in list_roles(recipe):
        item_problem = (f"empty item in {role}", recipe.column(role), "{}")
        problem_columns.setdefault(f"{role}_problem", item_problem)
    checks = []
    for name, (kind, column, template) in problem_columns.items():
        if name in columns:
            explain = _explain_each(name, partial(_format_problem, column, template))
            checks.append(Check(gxe.ExpectColumnValuesToBeNull(column=name), kind, explain))
    return checks


def _format_problem(column: str, template: str, value: str) -> str:
    text = template.format(value)
    return f"{column}: {text}" if column else text


def _explain_fixed(reason: str) -> Explainer:
    return lambda rows: [reason] * len(rows)


def _explain_each(column: str, describe_value: Callable[..., str]) -> Explainer:
    return lambda rows: [describe_value(value) for value in rows[column].tolist()]


LABELS = {"string": _check_string_label, "strings": _check_tags, "labels": _check_label_set}
