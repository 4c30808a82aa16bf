"""Numbers as a page writes them. None where there is nothing to write: the page shows a dash."""

import math
from typing import TypeGuard


def is_number(value: float | None) -> TypeGuard[float]:
    """Return whether the value is known and finite."""
    return value is not None and math.isfinite(value)


def known_or(value: float | None, default: float) -> float:
    """Return the value, or the default where it is missing or not finite."""
    return value if is_number(value) else default


def subtract_known(value: float | None, other: float | None) -> float | None:
    """Return the difference, or None where either value is unknown."""
    return value - other if is_number(value) and is_number(other) else None


def format_number(value: float | None, signed: bool = False) -> str | None:
    """Write four decimals, so that the numbers of a column align."""
    if not is_number(value):
        return None
    return _typeset_minus(f"{value:+,.4f}" if signed else f"{value:,.4f}")


def format_pvalue(value: float | None) -> str | None:
    """Write a number; a probability below 0.001 in scientific notation."""
    if value is None or not 0 < abs(value) < 1e-3:
        return format_number(value)
    return _typeset_minus(f"{value:.1e}")


def format_count(value: float | None) -> str | None:
    """Write a whole number with separated thousands."""
    return _typeset_minus(f"{value:,.0f}") if is_number(value) else None


def format_tenths(value: float) -> str:
    """Write one decimal."""
    return f"{value:,.1f}"


def format_interval(low: float | None, high: float | None, signed: bool = False) -> str | None:
    """Write an interval, or the bound that is known."""
    lower, upper = format_number(low, signed), format_number(high, signed)
    if lower and upper:
        return f"{lower} to {upper}"
    if lower:
        return f"≥ {lower}"
    return f"≤ {upper}" if upper else None


def format_value(value: object) -> str | None:
    """Write a JSON value of unknown type; at most four decimals."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return format_count(value)
    if isinstance(value, float):
        return _typeset_minus(f"{value:,.4f}".rstrip("0").rstrip(".")) if math.isfinite(value) else None
    return str(value)


def _typeset_minus(digits: str) -> str:
    is_zero = digits.startswith("-") and not digits.strip("-0.,")
    return digits[1:] if is_zero else digits.replace("-", "\N{MINUS SIGN}")
