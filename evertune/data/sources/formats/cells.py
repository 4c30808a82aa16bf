"""Convert one cell of a file or database to a text, words, labels, a number, a span or a moment."""

import ast
import contextlib
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

UNIX = re.compile(r"\d{9,17}(\.\d+)?")  # 8 digits are a date such as 20260105, fewer are no moment at all
MILLISECONDS = 1e11  # larger unix times are milliseconds: as seconds they would be after the year 5000
WORD = re.compile(r"[^ \t\r\n]+")  # unlike str.split(), keeps a no-break space inside a word
ITEM = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?|True|False|None|nan|\.\.\.""", re.DOTALL
)
NUMPY = re.compile(rf"\[\s*(?:{ITEM.pattern})(?:\s+(?:{ITEM.pattern}))*\]", re.DOTALL)  # no commas between the items
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_text(value: object) -> str | None:
    """Return the cell as text: numbers as written, moments in ISO format, None for null and NaN.

    Raises:
        ValueError: the cell is a list, a mapping or bytes that are not UTF-8.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, (int, float, Decimal, UUID)):
        return str(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8")
    raise ValueError(f"expected a text, found {type(value).__name__}")


def parse_words(value: object) -> list[str] | None:
    """Return the cell as a list of words. A text is a list as `parse_list` reads it, or words between spaces.

    Raises:
        ValueError: the cell is neither, its list is incomplete, or an item is null or no text.
    """
    if value is None:
        return None
    if isinstance(value, str):
        written_list = parse_list(value)
        value = WORD.findall(value) if written_list is None else written_list
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"expected a list of words, found {type(value).__name__}")
    items = [parse_text(item) for item in value]
    if None in items:
        raise ValueError(f"the word at position {items.index(None)} of the list is null")
    return [item for item in items if item is not None]


def parse_labels(value: object) -> list[str] | None:
    """Return the cell as distinct labels in sorted order, perhaps none.

    A text is a list as `parse_list` reads it, or labels separated by `|` or `;`.

    Raises:
        ValueError: as for `parse_words`.
    """
    if isinstance(value, str) and parse_list(value) is None:
        value = [label.strip() for label in re.split(r"[|;]", value) if label.strip()]
    labels = parse_words(value)
    return None if labels is None else sorted(set(labels))


def parse_number(value: object) -> str | None:
    """Return the cell as a number, written as Python writes a float; None for a blank cell.

    Raises:
        ValueError: the cell is not a finite number.
    """
    cell_text = parse_text(value)
    if cell_text is None or not cell_text.strip():
        return None
    try:
        number = float(cell_text)
    except ValueError:
        raise ValueError(f"{cell_text[:40]!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{cell_text!r} is not a finite number")
    return repr(number)


def parse_span(value: object) -> str | None:
    """Return the cell as a span of a text, as JSON `{"start": 17, "text": "..."}`; `start` is null for a text alone.

    The cell is such JSON, a text, or SQuAD's `{"answer_start": [17], "text": ["..."]}`, of which the first answer is
    used.

    Raises:
        ValueError: the cell is none of these.
    """
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if value is None:
        return None
    if isinstance(value, str):
        return _encode_span(None, value)
    if not isinstance(value, dict) or "text" not in value:
        raise ValueError(f"expected a text, or an object with `start` and `text`, found {type(value).__name__}")
    start = value.get("start", value.get("answer_start"))
    answer = value["text"]
    if isinstance(answer, (list, tuple)):
        start = _take_first(start)
        answer = _take_first(answer)
    if not isinstance(answer, str) or not (start is None or type(start) is int):  # a bool is an int to Python
        raise ValueError("in a span, `text` must be a text and `start` an integer or null")
    return _encode_span(start, answer)


def _take_first(value: object) -> object:
    """Return the first item of a list, None if it has none; anything else is its own first item."""
    if isinstance(value, (list, tuple)):
        return value[0] if value else None
    return value


def _encode_span(start: int | None, answer: str) -> str:
    return json.dumps({"start": start, "text": answer}, ensure_ascii=False)


def parse_list(cell: str) -> list[object] | None:
    """Return the list that a text spells out, or None.

    It is JSON, or the `str` of a Python list or a numpy array, which pandas writes.

    Raises:
        ValueError: numpy truncated the array, or a comma is missing.
    """
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    value = _try_parse(json.loads, cell)
    if value is not None:
        return value
    if NUMPY.fullmatch(cell):
        return [_parse_item(item) for item in ITEM.findall(cell)]
    value = _try_parse(ast.literal_eval, cell)
    has_strings = value is not None and any(isinstance(item, str) for item in value)
    if value is not None and has_strings and len(ITEM.findall(cell)) != len(value):
        raise ValueError("a comma is missing between two items of the list")  # Python would join them to one word
    return value


def _try_parse(parse: Callable[[str], object], cell: str) -> list[object] | None:
    try:
        value = parse(cell)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, list) else None


def _parse_item(item: str) -> object:
    if item == "...":
        raise ValueError("the numpy array is cut short with `...`; write it with .tolist()")
    return None if item == "nan" else ast.literal_eval(item)


def parse_moment(value: object) -> datetime | None:
    """Return the cell as a moment in UTC; None for a blank cell.

    The cell is an ISO date or time (in UTC if it has no offset), or a unix time in seconds or milliseconds.

    Raises:
        ValueError: the cell is neither.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    parsed = value if isinstance(value, datetime) else _parse_datetime(parse_text(value))
    if parsed is None:
        return None
    try:
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is out of range") from error


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
        raise ValueError("the time is out of range") from error


def replace_surrogates(value: object) -> object:
    """Return a JSON value with U+FFFD for every lone surrogate, which could not be stored.

    The contract sees the replacement as damage of the text.
    """
    if isinstance(value, str):
        return LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(member) for key, member in value.items()}
    return value
