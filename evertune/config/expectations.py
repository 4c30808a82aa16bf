"""Checks that an entry of `contract.expectations` cannot run code or fetch a file or page."""

import re
from collections.abc import Iterator, Mapping

from evertune.config.row_condition import read_condition

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
POWER = re.compile(r"\^\s*[+-]?\d{1,3}(?![\w.])")  # a larger power in `$PARAMETER` takes hours to compute


def check_expectation(given: dict[str, object]) -> dict[str, object]:
    """Return the expectation unchanged if its arguments are harmless.

    Raises:
        ValueError: an argument is not; the message starts with its key.
    """
    if given.get("row_condition") is not None:
        try:
            read_condition(given["row_condition"])
        except ValueError as error:
            raise ValueError(f"row_condition: {error}") from None
    for key, value in given.items():
        for mapping in _find_mappings(value):
            _check_references(key, mapping, value)
            _check_sum(key, mapping)
    return given


def _check_references(key: str, mapping: Mapping[object, object], whole: object) -> None:
    """A JSON schema may only refer to its own parts; others would be read from a file or the network."""
    for name in REFERENCES:
        target = mapping.get(name)
        if isinstance(target, str) and not target.startswith("#") and target.partition("#")[0] not in _find_ids(whole):
            raise ValueError(
                f"{key}: {name}: {target[:60]!r} is not allowed, because it reads a file or an address; "
                "put that schema under $defs and refer to it as '#/$defs/NAME'"
            )


def _check_sum(key: str, mapping: Mapping[object, object]) -> None:
    text = mapping.get("$PARAMETER")
    if isinstance(text, str) and text.count("^") and not (text.count("^") == 1 and POWER.search(text)):
        raise ValueError(
            f"{key}: $PARAMETER: {text[:60]!r}: use at most one power, of at most three digits, or write the number"
        )


def _find_ids(schema: object) -> set[str]:
    """Addresses that the schema gives to its own parts."""
    ids = [mapping.get(name) for mapping in _find_mappings(schema) for name in ("$id", "id")]
    return {text.rstrip("#") for text in ids if isinstance(text, str) and "://" in text}


def _find_mappings(value: object) -> Iterator[Mapping[object, object]]:
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from _find_mappings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _find_mappings(item)
