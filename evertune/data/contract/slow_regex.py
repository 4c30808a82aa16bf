"""Regular expressions that can take hours on one text: a repeat of nothing but a repeat, such as `(a+)+`."""

import functools
import logging
import re
import re._parser as regex_parser  # type: ignore[import-not-found]  # the only reader of patterns that Python has
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger(__name__)
REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
MANY = 10  # times: fewer of them multiply to little


def warn_of_slow(where: str, arguments: dict[str, Any]) -> None:
    """Log each pattern among an expectation's arguments that could hold the run up.

    Args:
        where: the expectation's place in the recipe.
    """
    for key in ("regex", "regex_list"):
        value = arguments.get(key, [])
        for pattern in [value] if isinstance(value, str) else value:
            _warn_once(f"{where}.{key}", str(pattern))


@functools.lru_cache(maxsize=1000)
def _warn_once(where: str, pattern: str) -> None:
    if is_slow(pattern):
        logger.warning("%s: %r repeats a repeat, which can take hours on one text; write it with one", where, pattern)


def is_slow(pattern: str) -> bool:
    """Whether a pattern repeats a part that is itself no more than a repeat; one that is no pattern does not."""
    try:
        parsed = regex_parser.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return any(_repeats_a_repeat(body) for body in _find_repeated(parsed))


def _find_repeated(parsed: Any) -> Iterator[Any]:
    """The bodies of all repeats of a pattern."""
    for name, argument in parsed:
        if str(name) in REPEATS and argument[1] >= MANY:
            yield argument[2]
        for part in _parts(argument):
            yield from _find_repeated(part)


def _parts(argument: Any) -> Iterator[Any]:
    if isinstance(argument, regex_parser.SubPattern):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for item in argument:
            yield from _parts(item)


def _repeats_a_repeat(body: Any) -> bool:
    """Whether the whole body may be matched by one long repeat in it, so that there are many ways to share a text."""
    while len(body) == 1 and str(body[0][0]) == "SUBPATTERN":
        body = body[0][1][-1]
    long = [argument for name, argument in body if str(name) in REPEATS and argument[1] >= MANY]
    needed = [name for name, argument in body if not (str(name) in REPEATS and argument[0] == 0)]
    return len(long) > 0 and len(needed) <= sum(argument[0] > 0 for argument in long)
