"""The contract as Great Expectations: what each expectation refuses, and in which words it says so."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.config.data import Bounds
from evertune.data.contract.frame import Allowed
from evertune.data.contract.text_damage import CONTROL, DAMAGE, SIGN, first
from evertune.data.row_versions import roles
from evertune.objectives import module

if TYPE_CHECKING:
    import pandas as pd

WRITTEN = ("string", "strings", "labels")  # kinds of columns that people write
Say = Callable[["pd.DataFrame"], list[str]]


@dataclass(frozen=True)
class Check:
    """One expectation, and what to make of it.

    Args:
        expectation: of Great Expectations.
        kind: class of the reason, under which refused rows are counted.
        say: the reason of each failing row, from these rows of the frame; None where it looks at the whole batch.
        warn: only report, refuse nothing.
    """

    expectation: Any
    kind: str
    say: Say | None
    warn: bool = False


def built_in(recipe: Recipe, permitted: Allowed, columns: list[str]) -> list[Check]:
    """The checks that the recipe's contract asks for.

    Args:
        columns: those of the frame.
    """
    objective = module(recipe.objective.type)
    kinds = objective.COLUMNS
    checks: list[Check] = []
    for role in roles(recipe):
        if role in kinds or role == "id":
            checks += _present(role, recipe.column(role))
        if kinds.get(role) in WRITTEN and recipe.contract.characters == "refuse":
            checks += _undamaged(role, recipe.column(role))
    for role in objective.INPUTS:
        if kinds[role] in WRITTEN:
            text = kinds[role] == "string"
            bounds = recipe.contract.text if text else recipe.contract.tokens
            checks += _lengths(role, recipe.column(role), bounds, text)
    if objective.LABELED:
        checks += LABELS[kinds[objective.TARGET]](objective.TARGET, recipe, permitted)
    return [*checks, *_told(recipe, columns)]


def _present(role: str, column: str) -> list[Check]:
    import great_expectations.expectations as gxe

    return [
        Check(gxe.ExpectColumnValuesToNotBeNull(column=role), f"missing {role}", _fixed(f"{column}: missing")),
    ]


def _undamaged(role: str, column: str) -> list[Check]:
    import great_expectations.expectations as gxe

    damage = gxe.ExpectColumnValuesToNotMatchRegex(column=role, regex=DAMAGE)
    control = gxe.ExpectColumnValuesToNotMatchRegex(column=role, regex=CONTROL)
    return [
        Check(
            damage, "encoding damage", _each(role, lambda text: f"{column}: damaged encoding, {first(DAMAGE, text)!r}")
        ),
        Check(
            control,
            "control character",
            _each(role, lambda text: f"{column}: control character {first(CONTROL, text)}"),
        ),
    ]


def _lengths(role: str, column: str, bounds: Bounds, text: bool) -> list[Check]:
    import great_expectations.expectations as gxe

    unit = "characters" if text else "words"
    checked = role if text else f"{role.removesuffix('s')}_count"
    between: Any = gxe.ExpectColumnValueLengthsToBeBetween if text else gxe.ExpectColumnValuesToBeBetween
    long = between(column=checked, max_value=bounds.max_length)
    checks = [Check(long, f"{role} too long", _fixed(f"{column}: longer than {bounds.max_length} {unit}"))]
    if bounds.min_length > 0:
        sign = gxe.ExpectColumnValuesToMatchRegex(column=role, regex=SIGN)
        checks.append(Check(sign, f"empty {role}", _fixed(f"{column}: empty")))
    if bounds.min_length > 1:
        short = between(column=checked, min_value=bounds.min_length)
        checks.append(Check(short, f"{role} too short", _fixed(f"{column}: shorter than {bounds.min_length} {unit}")))
    return checks


def _string_label(role: str, recipe: Recipe, permitted: Allowed) -> list[Check]:
    import great_expectations.expectations as gxe

    column, why = recipe.column(role), _not_allowed(recipe, permitted, "label")
    known = gxe.ExpectColumnValuesToBeInSet(column=role, value_set=permitted.values)
    return [Check(known, why[0], _each(role, lambda value: f"{column}: {value!r} {why[1]}"))]


def _tags(role: str, recipe: Recipe, permitted: Allowed) -> list[Check]:
    import great_expectations.expectations as gxe

    given = module(recipe.objective.type).INPUTS[0]
    words, tags = f"{given.removesuffix('s')}_count", f"{role.removesuffix('s')}_count"
    same = gxe.ExpectColumnPairValuesToBeEqual(column_A=words, column_B=tags, ignore_row_if="either_value_is_missing")
    known = gxe.ExpectColumnValuesToBeNull(column="unknown_tag")
    column, why = recipe.column(role), _not_allowed(recipe, permitted, "tag")

    def say(rows: "pd.DataFrame") -> list[str]:
        counts = zip(rows[words].tolist(), rows[tags].tolist(), strict=True)
        return [f"{recipe.column(given)}: {int(one)} words, but {int(two)} {column}" for one, two in counts]

    return [
        Check(same, "word and tag counts differ", say),
        Check(known, why[0], _each("unknown_tag", lambda value: f"{column}: {value!r} {why[1]}")),
    ]


def _set(role: str, recipe: Recipe, permitted: Allowed) -> list[Check]:
    import great_expectations.expectations as gxe

    known = gxe.ExpectColumnValuesToBeNull(column="unknown_tag")
    column, why = recipe.column(role), _not_allowed(recipe, permitted, "label")
    return [Check(known, why[0], _each("unknown_tag", lambda value: f"{column}: {value!r} {why[1]}"))]


def _not_allowed(recipe: Recipe, permitted: Allowed, noun: str) -> tuple[str, str]:
    """Class and words for a value that is not allowed."""
    if permitted.inferred:
        least = recipe.contract.label.min_rows
        return f"rare {noun}", f"stands on fewer than {least} rows (contract.label.min_rows)"
    count = len(permitted.values)
    return (
        f"unknown {noun}",
        f"is not {'the one known' if count == 1 else f'one of the {count} known'} {noun}{'s' * (count > 1)}",
    )


def _told(recipe: Recipe, columns: list[str]) -> list[Check]:
    """Checks of the columns that tell a row's problem themselves."""
    import great_expectations.expectations as gxe

    text = module(recipe.objective.type).INPUTS[0]
    kinds = {
        "row_problem": ("row that makes no sense", "", "{}"),  # says itself which of its columns it speaks of
        "timestamp_problem": ("unreadable timestamp", recipe.column("timestamp"), "{!r} is no date or time"),
        "future": ("timestamp in the future", recipe.column("timestamp"), "{}"),
        "duplicate_id": ("duplicate id", recipe.column("id"), "{}"),
        "two_labels": ("two labels for one input", recipe.column(text), "{}"),
    }
    for role in roles(recipe):
        kinds[f"{role}_problem"] = kinds.get(f"{role}_problem", (f"empty item in {role}", recipe.column(role), "{}"))
    checks = []
    for name, (kind, column, words) in kinds.items():
        if name in columns:
            head = column and f"{column}: "
            say = _each(name, lambda value, head=head, words=words: head + words.format(value))
            checks.append(Check(gxe.ExpectColumnValuesToBeNull(column=name), kind, say))
    return checks


def _fixed(reason: str) -> Say:
    return lambda rows: [reason] * len(rows)


def _each(column: str, words: Callable[..., str]) -> Say:
    return lambda rows: [words(value) for value in rows[column].tolist()]


LABELS = {"string": _string_label, "strings": _tags, "labels": _set}
