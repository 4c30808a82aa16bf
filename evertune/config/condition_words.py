"""The words of a condition on rows, and names, texts and numbers written so that pandas reads nothing else in them."""

import ast
import math
import re
import unicodedata
import warnings
from dataclasses import dataclass
from keyword import iskeyword

ALLOWED = (
    "a condition may hold column names, numbers, texts, True, False, None, lists of these, the signs == != < <= > >=, "
    "the words in, not in, and, or, not, parentheses, and COLUMN.isnull() or COLUMN.notnull()"
)
TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<quoted>`[\w .-]+`)
    |(?P<name>[^\W\d]\w*)
    |(?P<sign>==|!=|<=|>=|[<>&|~()\[\],.])""",
    re.VERBOSE,
)
PLAIN = re.compile(r"[A-Za-z0-9 _.-]")  # characters that stand for themselves in a text for pandas


@dataclass(frozen=True)
class Token:
    """A word of a condition: its kind (a group of `TOKEN`, or `end`), and where it starts."""

    kind: str
    text: str
    start: int


def describe(problem: str, rest: str) -> str:
    """An error's message: the problem, the rest of the condition from there on, and what is allowed."""
    where = f"{rest[:40]!r}" if rest else "its end"
    return f"at {where}: {problem}; {ALLOWED}" if rest else f"{where} comes too early; {ALLOWED}"


def split_tokens(text: str) -> list[Token]:
    """The words of a condition, and two that say that it ends.

    Raises:
        ValueError: a part of it is no word.
    """
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise ValueError(describe("is not allowed", text[position:]))
        if match.lastgroup != "space":
            tokens.append(Token(str(match.lastgroup), match.group(), position))
        position = match.end()
    end = Token("end", "", len(text))
    return [*tokens, end, end]  # two, so that a parser may look one token ahead


def decode_text(text: str) -> str:
    """What stands between quotation marks, with Python's escapes undone.

    Raises:
        ValueError: an escape is not complete.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape, such as \d, is itself
            decoded: str = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError(describe("is no text", text)) from None
    return decoded


def write_number(text: str) -> str:
    """The number for pandas.

    Raises:
        ValueError: it is larger than any.
    """
    number = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(describe("is too large", text))
    return repr(number)


def write_text(text: str) -> str:
    """A literal without quotation marks, backticks or backslashes in it: pandas takes some of these for its own."""
    signs = (sign if PLAIN.fullmatch(sign) else f"\\U{ord(sign):08x}" for sign in text)
    return f"'{''.join(signs)}'"


def write_column(name: str) -> str:
    """The column for pandas.

    Raises:
        ValueError: it could be read as anything else; names that start with `__` are pandas' own for variables.
    """
    if not re.fullmatch(r"[\w .-]+", name) or unicodedata.normalize("NFKC", name).startswith("__"):
        raise ValueError(f"{name[:40]!r} is no name of a column")
    return name if name.isidentifier() and not iskeyword(name) else f"`{name}`"
