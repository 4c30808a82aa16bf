"""One cell, as a file or a database gives it, becomes a text, words, labels, a number, a span or a moment."""

import ast
import contextlib
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

UNIX = re.compile(r"\d{9,17}(\.\d+)?")  # 8 digits are a date such as 20260105, fewer are no moment at all
MILLISECONDS = 1e11  # unix times above this are milliseconds: in seconds they would lie after the year 5000
WORD = re.compile(r"[^ \t\r\n]+")  # not str.split(): a no-break space stands inside a word
ITEM = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?|True|False|None|nan|\.\.\.""", re.DOTALL
)
NUMPY = re.compile(rf"\[\s*(?:{ITEM.pattern})(?:\s+(?:{ITEM.pattern}))*\]", re.DOTALL)  # no commas between the items
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_text(value: Any) -> str | None:
    """The cell as text: numbers as they are written, moments in ISO form, null and NaN as None.

    Raises:
        ValueError: it holds a list, a mapping or bytes that are not UTF-8.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, (int, float, Decimal, UUID)):
        return str(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8")
    raise ValueError(f"holds a {type(value).__name__} where a text is needed")


def parse_words(value: Any) -> list[str] | None:
    """The cell as a list of words: a list as it is; a text is a spelled list (see `listed`), or words between spaces.

    Raises:
        ValueError: it is neither, a spelled list is not whole, or an element is null or no text.
    """
    if value is None:
        return None
    if isinstance(value, str):
        spelled_list = parse_list(value)
        value = WORD.findall(value) if spelled_list is None else spelled_list
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"holds a {type(value).__name__} where a list of words is needed")
    items = [parse_text(item) for item in value]
    if None in items:
        raise ValueError(f"the word at position {items.index(None)} of its list is null")
    return [item for item in items if item is not None]


def parse_labels(value: Any) -> list[str] | None:
    """The cell as a set of labels in order, perhaps an empty one: a list, a spelled list, or labels between `|` or `;`.

    Raises:
        ValueError: see `words`.
    """
    if isinstance(value, str) and parse_list(value) is None:
        value = [label.strip() for label in re.split(r"[|;]", value) if label.strip()]
    label_list = parse_words(value)
    return None if label_list is None else sorted(set(label_list))


def parse_number(value: Any) -> str | None:
    """The cell as a number, written as Python writes it.

    Raises:
        ValueError: it is no finite number.
    """
    cell_text = parse_text(value)
    if cell_text is None or not cell_text.strip():
        return None
    try:
        parsed_number = float(cell_text)
    except ValueError:
        raise ValueError(f"{cell_text[:40]!r} is no number") from None
    if not math.isfinite(parsed_number):
        raise ValueError(f"{cell_text!r} is no finite number")
    return repr(parsed_number)


def parse_span(value: Any) -> str | None:
    """The cell as a part of a text, as JSON `{"start": 17, "text": "..."}`; `start` is null for a text alone.

    It may be such JSON, a text, or SQuAD's `{"answer_start": [17], "text": ["..."]}`, of which the first counts.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if value is None or isinstance(value, str):
        return None if value is None else _encode_span(None, value)
    if not isinstance(value, dict) or "text" not in value:
        raise ValueError(f"holds a {type(value).__name__} where a text, or its `start` and `text`, is needed")
    start = value.get("start", value.get("answer_start"))
    answer = value["text"]
    if isinstance(answer, (list, tuple)):
        start = (start or [None])[0]
        answer = (answer or [None])[0]
    if not isinstance(answer, str) or not (start is None or isinstance(start, int)):
        raise ValueError("holds a span whose `text` is no text or whose `start` is no whole number")
    return _encode_span(start, answer)


def _encode_span(start: int | None, answer: str) -> str:
    return json.dumps({"start": start, "text": answer}, ensure_ascii=False)


def parse_list(cell: str) -> list[Any] | None:
    """The list that a cell spells, or None: as JSON, or as `str` of a Python list or numpy array (pandas writes those).

    Raises:
        ValueError: numpy left items out, or a comma is missing.
    """
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    if (value := _try_parse(json.loads, cell)) is not None:
        return value
    if NUMPY.fullmatch(cell):
        return [_parse_item(item) for item in ITEM.findall(cell)]
    value = _try_parse(ast.literal_eval, cell)
    if (
        value is not None
        and any(isinstance(element, str) for element in value)
        and len(ITEM.findall(cell)) != len(value)
    ):
        raise ValueError("holds a list with a comma missing between two items")  # Python would glue them into one word
    return value


def _try_parse(parse: Callable[[str], Any], cell: str) -> list[Any] | None:
    try:
        value = parse(cell)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, list) else None


def _parse_item(item: str) -> Any:
    if item == "...":
        raise ValueError("holds a numpy array that was cut short with `...`; write it with .tolist()")
    return None if item == "nan" else ast.literal_eval(item)


def parse_moment(value: Any) -> datetime | None:
    """The cell as a moment in UTC: ISO forms (without an offset: UTC), or unix time in seconds or milliseconds.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    parsed = value if isinstance(value, datetime) else _parse_datetime(parse_text(value))
    if parsed is None:
        return None
    try:
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error


def _parse_datetime(cell: str | None) -> datetime | None:
    if cell is None or not cell.strip():
        return None
    cell = cell.strip()
    if not UNIX.fullmatch(cell):
        return datetime.fromisoformat(cell)
    seconds = float(cell) if float(cell) < MILLISECONDS else float(cell) / 1000
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("out of range") from error


def replace_surrogates(value: Any) -> Any:
    """A JSON value with U+FFFD for every half of a surrogate pair: such a text cannot be stored, a damaged one can."""
    if isinstance(value, str):
        return LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(member) for key, member in value.items()}
    return value
