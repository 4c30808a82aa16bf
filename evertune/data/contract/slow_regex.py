"""Find regular expressions that can take hours on one text: a repeat of nothing but a repeat, such as `(a+)+`."""

import functools
import logging
import re
import re._parser as regex_parser  # type: ignore[import-not-found]  # the only reader of patterns that Python has
from collections.abc import Iterator, Mapping

logger = logging.getLogger(__name__)
REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
MANY = 10  # times; fewer repeats multiply to little


def warn_of_slow(where: str, arguments: Mapping[str, object]) -> None:
    """Log each pattern among an expectation's arguments that could stall the run.

    Args:
        where: path of the expectation in the recipe.
        arguments: of the expectation.
    """
    for key in ("regex", "regex_list"):
        value = arguments.get(key)
        patterns = value if isinstance(value, (list, tuple)) else [value]
        for pattern in patterns:
            if isinstance(pattern, str):
                _warn_once(f"{where}.{key}", pattern)


@functools.lru_cache(maxsize=1000)
def _warn_once(where: str, pattern: str) -> None:
    if is_slow(pattern):
        logger.warning("%s: %r nests repeats, which can take hours on one text; use a single repeat", where, pattern)


def is_slow(pattern: str) -> bool:
    """Return whether a pattern repeats a part that is itself just a repeat; False for an invalid pattern."""
    try:
        parsed = regex_parser.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return any(_repeats_a_repeat(body) for body in _find_repeated(parsed))


def _find_repeated(parsed: regex_parser.SubPattern) -> Iterator[regex_parser.SubPattern]:
    """Yield the bodies of all repeats of a pattern."""
    for name, argument in parsed:
        if str(name) in REPEATS and argument[1] >= MANY:
            yield argument[2]
        for part in _iterate_subpatterns(argument):
            yield from _find_repeated(part)


def _iterate_subpatterns(argument: object) -> Iterator[regex_parser.SubPattern]:
    if isinstance(argument, regex_parser.SubPattern):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for item in argument:
            yield from _iterate_subpatterns(item)


def _repeats_a_repeat(body: regex_parser.SubPattern) -> bool:
    """Return whether one long repeat can match the whole body, so that a text can be split in many ways."""
    while len(body) == 1 and str(body[0][0]) == "SUBPATTERN":
        body = body[0][1][-1]
    long = [argument for name, argument in body if str(name) in REPEATS and argument[1] >= MANY]
    needed = [name for name, argument in body if not (str(name) in REPEATS and argument[0] == 0)]
    return len(long) > 0 and len(needed) <= sum(argument[0] > 0 for argument in long)
