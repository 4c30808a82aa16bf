"""An expectation's `row_condition`, in a small language that can call nothing.

Great Expectations passes a condition to `DataFrame.query`, which looks up any object (`@pd`), follows attributes and
calls functions, so that a stranger's condition could run a program. Therefore it is parsed here, and pandas gets a text
that is rewritten from the parsed parts.

    either     := both (("or" | "|") both)*
    both       := negation (("and" | "&") negation)*
    negation   := ("not" | "~") negation | "(" either ")" | null test | comparison | column
    null test  := column "." ("isnull" | "isna" | "notnull" | "notna") "()"
    comparison := operand (("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in") operand)+
    operand    := column | literal | "[" literal ("," literal)* "]" | "(" literal "," literal ")"
    column     := name | `name` | col("name")
    literal    := number | text | True | False | None | date("2026-01-31")
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from keyword import iskeyword
from typing import NoReturn

from evertune.config.condition_words import (
    ALLOWED,
    Token,
    decode_text,
    describe,
    split_tokens,
    write_column,
    write_number,
    write_text,
)

LONGEST = 2000  # maximum characters of a condition
DEEPEST = 40  # maximum levels of parentheses and negations
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
NULL_TESTS = {"isnull": "isnull", "isna": "isnull", "notnull": "notnull", "notna": "notnull"}
CONSTANTS = ("True", "False", "None")


@dataclass(frozen=True)
class RowCondition:
    """A parsed condition.

    Args:
        query: for `DataFrame.query`; it calls nothing but `isnull` and `notnull` of a column.
        columns: the columns that it names.
    """

    query: str
    columns: tuple[str, ...]


def read_condition(given: object) -> RowCondition:
    """Parse a condition: a text, or Great Expectations' mapping with a `type`.

    Raises:
        ValueError: it contains something that is not allowed; the message shows it.
    """
    if isinstance(given, str):
        return _Parser(given).parse_whole()
    columns: list[str] = []
    query = _write_mapping(given, columns, 0)
    return RowCondition(query, tuple(dict.fromkeys(columns)))


class _Parser:
    """Parses a text from left to right and writes each part for pandas."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise ValueError(f"longer than {LONGEST} characters; {ALLOWED}")
        self._text = text
        self._tokens = split_tokens(text)
        self._next = 0
        self._columns: list[str] = []
        self._depth = 0

    def parse_whole(self) -> RowCondition:
        query = self._parse_either()
        if self._peek().kind != "end":
            self._refuse()
        return RowCondition(query, tuple(dict.fromkeys(self._columns)))

    def _parse_either(self) -> str:
        return self._parse_joined("or", "|", self._parse_both)

    def _parse_both(self) -> str:
        return self._parse_joined("and", "&", self._parse_negation)

    def _parse_joined(self, word: str, sign: str, parse_part: Callable[[], str]) -> str:
        parts = [parse_part()]
        while self._accept(word, sign):
            parts.append(parse_part())
        return parts[0] if len(parts) == 1 else f"({f' {word} '.join(parts)})"

    def _parse_negation(self) -> str:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels deep; simplify it")
        start = self._next
        if self._accept("not", "~"):
            query = self._write_negation(start)
        elif self._accept("("):
            query = self._parse_either()
            self._expect(")")
        else:
            query = self._parse_comparison()
        self._depth -= 1
        return query

    def _write_negation(self, start: int) -> str:
        part = self._parse_negation()
        # For pandas `~a == b` is `(~a) == b`, and `not a == b` is `not (a == b)`: only the second means what it says.
        if self._tokens[start].text == "~" and self._tokens[start + 1].text not in ("(", "~") and part.startswith("("):
            self._next = start
            self._refuse("needs parentheses after ~")
        return f"(not {part})"

    def _parse_comparison(self) -> str:
        start = self._next
        first, is_column = self._parse_operand()
        if is_column and self._accept("."):
            return self._parse_null_test(first)
        parts = [first]
        names_column = is_column
        while sign := self._parse_sign():
            operand, is_column = self._parse_operand(needs_list=sign in ("in", "not in"))
            parts += [sign, operand]
            names_column = names_column or is_column
        if not names_column:
            self._next = start
            self._refuse("does not compare a column")
        return f"({' '.join(parts)})" if len(parts) > 1 else first

    def _parse_null_test(self, column: str) -> str:
        test = NULL_TESTS.get(self._peek().text.lower())
        if test is None:
            self._refuse()
        self._next += 1
        self._expect("(")
        self._expect(")")
        return f"{column}.{test}()"

    def _parse_sign(self) -> str | None:
        if self._accept("not"):
            self._expect("in")
            return "not in"
        for sign in (*COMPARISONS, "in"):
            if self._accept(sign):
                return sign
        return None

    def _parse_operand(self, needs_list: bool = False) -> tuple[str, bool]:
        """The operand, written for pandas, and whether it is a column."""
        if self._accept("["):
            return self._parse_list("]"), False
        if needs_list and self._accept("("):
            return self._parse_list(")"), False
        if needs_list:
            self._refuse("must be a list")
        if (literal := self._parse_literal()) is not None:
            return literal, False
        return self._parse_column(), True

    def _parse_list(self, end: str) -> str:
        literals: list[str] = []
        while not self._accept(end):
            if literals:
                self._expect(",")
                if self._accept(end):
                    break
            literal = self._parse_literal()
            if literal is None:
                self._refuse()
            literals.append(str(literal))
        return f"[{', '.join(literals)}]"

    def _parse_literal(self) -> str | None:
        token = self._peek()
        if token.kind == "number":
            self._next += 1
            return write_number(token.text)
        if token.kind == "text":
            self._next += 1
            return write_text(decode_text(token.text))
        if token.text in CONSTANTS:
            self._next += 1
            return token.text
        if token.text == "date" and self._tokens[self._next + 1].text == "(":
            return write_text(self._parse_argument())
        return None

    def _parse_column(self) -> str:
        token = self._peek()
        if token.text == "col" and self._tokens[self._next + 1].text == "(":
            name = self._parse_argument()
        elif token.kind == "quoted" or (token.kind == "name" and not iskeyword(token.text)):
            self._next += 1
            name = token.text.strip("`")
        else:
            self._refuse()
        try:
            column = write_column(name)
        except ValueError:
            self._next -= 1
            self._refuse()
        self._columns.append(name)
        return column

    def _parse_argument(self) -> str:
        """The text in `col("text")` or `date("text")`."""
        self._next += 1
        self._expect("(")
        token = self._peek()
        if token.kind != "text":
            self._refuse()
        self._next += 1
        self._expect(")")
        return decode_text(token.text)

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _accept(self, *texts: str) -> bool:
        token = self._peek()
        is_wanted = token.kind in ("name", "sign") and token.text in texts
        self._next += is_wanted
        return is_wanted

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            self._refuse()

    def _refuse(self, problem: str = "") -> NoReturn:
        rest = self._text[self._peek().start :]
        raise ValueError(describe(problem or "is not allowed", rest))


def _write_mapping(given: object, columns: list[str], depth: int) -> str:
    """A condition as Great Expectations saves it, such as `{type: comparison, column: {name: n}, ...}`."""
    mapping: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    kind = mapping.get("type")
    conditions = mapping.get("conditions")
    if kind in ("and", "or") and isinstance(conditions, Sequence) and depth < DEEPEST:
        parts = [_write_mapping(part, columns, depth + 1) for part in conditions]
        if parts:
            return f"({f' {kind} '.join(parts)})"
    if kind == "nullity":
        test = "isnull" if mapping.get("is_null") else "notnull"
        return f"{_write_named_column(mapping, columns)}.{test}()"
    if kind == "comparison":
        sign = {"IN": "in", "NOT_IN": "not in"}.get(str(mapping.get("operator")), mapping.get("operator"))
        if sign in (*COMPARISONS, "in", "not in"):
            return f"({_write_named_column(mapping, columns)} {sign} {_write_value(mapping.get('parameter'))})"
    raise ValueError(f"{str(given)[:60]!r} is not allowed; write the condition as a text, such as `n > 1`: {ALLOWED}")


def _write_named_column(given: Mapping[str, object], columns: list[str]) -> str:
    column = given.get("column")
    name = column.get("name") if isinstance(column, Mapping) else column
    written = write_column(str(name))
    columns.append(str(name))
    return written


def _write_value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_write_value(item) for item in value)}]"
    if isinstance(value, str):
        return write_text(value)
    if isinstance(value, date):
        return write_text(value.isoformat())
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float)):
        return write_number(repr(value))
    raise ValueError(f"{str(value)[:40]!r} cannot be compared with; {ALLOWED}")
