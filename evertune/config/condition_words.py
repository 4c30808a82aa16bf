"""The tokens of a row condition, and names, texts and numbers written so that pandas cannot misread them."""

import ast
import math
import re
import unicodedata
import warnings
from dataclasses import dataclass
from keyword import iskeyword

ALLOWED = (
    "a condition may contain column names, numbers, texts, True, False, None, lists of these, == != < <= > >=, "
    "in, not in, and, or, not, parentheses, and COLUMN.isnull() or COLUMN.notnull()"
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
    """A token of a condition: its kind (a group of `TOKEN`, or `end`), text and start."""

    kind: str
    text: str
    start: int


def describe(problem: str, rest: str) -> str:
    """Return an error message: the problem, the rest of the condition, and what is allowed."""
    if not rest:
        return f"the condition is incomplete; {ALLOWED}"
    return f"at {rest[:40]!r}: {problem}; {ALLOWED}"


def split_tokens(text: str) -> list[Token]:
    """Split a condition into tokens, followed by two of kind `end`.

    Raises:
        ValueError: a part of it is not a token.
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
    """Decode a quoted text with Python's escapes.

    Raises:
        ValueError: an escape is incomplete.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape, such as \d, is kept as it is
            decoded: str = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError(describe("is not a valid text", text)) from None
    return decoded


def write_number(text: str) -> str:
    """Write a number for pandas.

    Raises:
        ValueError: the number is too large.
    """
    number = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(describe("is too large", text))
    return repr(number)


def write_text(text: str) -> str:
    """Write a text for pandas, without quotation marks, backticks or backslashes, which pandas may misread."""
    signs = (sign if PLAIN.fullmatch(sign) else f"\\U{ord(sign):08x}" for sign in text)
    return f"'{''.join(signs)}'"


def write_column(name: str) -> str:
    """Write a column name for pandas.

    Raises:
        ValueError: it could be misread; pandas uses names that start with `__` for variables.
    """
    if not re.fullmatch(r"[\w .-]+", name) or unicodedata.normalize("NFKC", name).startswith("__"):
        raise ValueError(f"{name[:40]!r} is not a column name")
    return name if name.isidentifier() and not iskeyword(name) else f"`{name}`"
