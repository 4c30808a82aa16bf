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


def text(value: Any) -> str | None:
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


def words(value: Any) -> list[str] | None:
    """The cell as a list of words: a list as it is; a text is a spelled list (see `listed`), or words between spaces.

    Raises:
        ValueError: it is neither, a spelled list is not whole, or an element is null or no text.
    """
    if value is None:
        return None
    if isinstance(value, str):
        spelled = listed(value)
        value = WORD.findall(value) if spelled is None else spelled
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"holds a {type(value).__name__} where a list of words is needed")
    found = [text(one) for one in value]
    if None in found:
        raise ValueError(f"the word at position {found.index(None)} of its list is null")
    return [one for one in found if one is not None]


def labels(value: Any) -> list[str] | None:
    """The cell as a set of labels in order, perhaps an empty one: a list, a spelled list, or labels between `|` or `;`.

    Raises:
        ValueError: see `words`.
    """
    if isinstance(value, str) and listed(value) is None:
        value = [one.strip() for one in re.split(r"[|;]", value) if one.strip()]
    found = words(value)
    return None if found is None else sorted(set(found))


def number(value: Any) -> str | None:
    """The cell as a number, written as Python writes it.

    Raises:
        ValueError: it is no finite number.
    """
    given = text(value)
    if given is None or not given.strip():
        return None
    try:
        found = float(given)
    except ValueError:
        raise ValueError(f"{given[:40]!r} is no number") from None
    if not math.isfinite(found):
        raise ValueError(f"{given!r} is no finite number")
    return repr(found)


def span(value: Any) -> str | None:
    """The cell as a part of a text, as JSON `{"start": 17, "text": "..."}`; `start` is null for a text alone.

    It may be such JSON, a text, or SQuAD's `{"answer_start": [17], "text": ["..."]}`, of which the first counts.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if value is None or isinstance(value, str):
        return None if value is None else _span(None, value)
    if not isinstance(value, dict) or "text" not in value:
        raise ValueError(f"holds a {type(value).__name__} where a text, or its `start` and `text`, is needed")
    start, said = value.get("start", value.get("answer_start")), value["text"]
    if isinstance(said, (list, tuple)):
        start, said = (start or [None])[0], (said or [None])[0]
    if not isinstance(said, str) or not (start is None or isinstance(start, int)):
        raise ValueError("holds a span whose `text` is no text or whose `start` is no whole number")
    return _span(start, said)


def _span(start: int | None, said: str) -> str:
    return json.dumps({"start": start, "text": said}, ensure_ascii=False)


def listed(cell: str) -> list[Any] | None:
    """The list that a cell spells, or None: as JSON, or as `str` of a Python list or numpy array (pandas writes those).

    Raises:
        ValueError: numpy left items out, or a comma is missing.
    """
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    if (value := _evaluated(json.loads, cell)) is not None:
        return value
    if NUMPY.fullmatch(cell):
        return [_evaluated_item(item) for item in ITEM.findall(cell)]
    value = _evaluated(ast.literal_eval, cell)
    if value is not None and any(isinstance(one, str) for one in value) and len(ITEM.findall(cell)) != len(value):
        raise ValueError("holds a list with a comma missing between two items")  # Python would glue them into one word
    return value


def _evaluated(parse: Callable[[str], Any], cell: str) -> list[Any] | None:
    try:
        value = parse(cell)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, list) else None


def _evaluated_item(item: str) -> Any:
    if item == "...":
        raise ValueError("holds a numpy array that was cut short with `...`; write it with .tolist()")
    return None if item == "nan" else ast.literal_eval(item)


def moment(value: Any) -> datetime | None:
    """The cell as a moment in UTC: ISO forms (without an offset: UTC), or unix time in seconds or milliseconds.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    parsed = value if isinstance(value, datetime) else _parsed(text(value))
    if parsed is None:
        return None
    try:
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error


def _parsed(cell: str | None) -> datetime | None:
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


def without_surrogates(value: Any) -> Any:
    """A JSON value with U+FFFD for every half of a surrogate pair: such a text cannot be stored, a damaged one can."""
    if isinstance(value, str):
        return LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(one) for one in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(one) for key, one in value.items()}
    return value
