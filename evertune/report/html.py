"""Pieces of the report page: escaped text, aligned numbers, tables, bars, inlined pictures."""

import base64
import html
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NewType, TypeGuard

from evertune.data.thumbnails import URI

Html = NewType("Html", str)  # markup that is safe to show; only this module makes it from data
DASH = Html('<span class="none">&ndash;</span>')
DPI = 150  # of the pictures
TALL = 24  # a table with more rows scrolls inside its box
NARROW = 3  # a table with more columns is told row by row on a phone, each cell with its heading


def is_number(value: float | None) -> TypeGuard[float]:
    """Whether it is a number."""
    return value is not None and math.isfinite(value)


def escape(value: object) -> Html:
    """Any value as escaped text."""
    return Html(html.escape(str(value)))


def show_words(value: object) -> Html:
    """A text from the data, with its own line breaks and direction."""
    return Html(f'<span class="words" dir="auto">{escape(value)}</span>')


def show_data(value: str) -> Html:
    """A text from the data, or the thumbnail of a picture."""
    if not URI.fullmatch(value):
        return show_words(value)
    return Html(f'<img class="thumbnail" alt="a picture from the data" src="{value}">')


def show_label(value: str) -> Html:
    """A name from the data, which may break after its joints."""
    return Html(re.sub("([_=/.-])", r"\1<wbr>", escape(value)))


def format_number(value: float | None, signed: bool = False) -> Html:
    """Four decimals, so that a column aligns; a dash for what is missing or no number."""
    if not is_number(value):
        return DASH
    return _typeset_minus(f"{value:+,.4f}" if signed else f"{value:,.4f}")


def format_pvalue(value: float | None) -> Html:
    """As `number`, but a probability below 0.001 keeps two digits."""
    if value is None or not 0 < abs(value) < 1e-3:
        return format_number(value)
    return _typeset_minus(f"{value:.1e}")


def format_count(value: float | None) -> Html:
    """A whole number with its thousands apart; a dash for what is missing or no number."""
    return DASH if not is_number(value) else _typeset_minus(f"{value:,.0f}")


def format_value(value: Any) -> Html:
    """A JSON value of unknown kind: numbers to four decimals, a dash for nothing."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return escape("yes" if value else "no")
    if isinstance(value, int):
        return format_count(value)
    if isinstance(value, float):
        return _typeset_minus(f"{value:,.4f}".rstrip("0").rstrip(".")) if math.isfinite(value) else DASH
    return escape(value)


def format_change(value: float | None, is_good: bool | None) -> Html:
    """A signed difference in the colour of its meaning."""
    tone = (
        ""
        if value is None or is_good is None or round(value, 4) == 0
        else ' class="good"'
        if is_good
        else ' class="bad"'
    )
    return Html(f"<span{tone}>{format_number(value, signed=True)}</span>")


def format_interval(low: float | None, high: float | None, signed: bool = False) -> Html:
    """An interval; a dash where neither end is known."""
    if format_number(low) == DASH and format_number(high) == DASH:
        return DASH
    return Html(f"{format_number(low, signed)} to {format_number(high, signed)}")


def draw_bar(share: float | None, label: Html, tone: str = "") -> Html:
    """A bar, and a number beside it.

    Args:
        share: length, 0 to 1.
    """
    width = 0.0 if share is None or not math.isfinite(share) else 100 * min(1.0, max(0.0, share))
    return Html(f'<span class="bar {tone}"><i style="width:{width:.1f}%"></i></span><span class="value">{label}</span>')


def build_table(heads: Sequence[str], rows: Sequence[Sequence[Html]], *, named: int = 1, kind: str = "") -> Html:
    """A table in a box that scrolls by itself; nothing where there are no rows.

    Args:
        named: leading columns of words; the others hold numbers and stand right.
        kind: further CSS classes.
    """
    if not rows:
        return Html("")
    head = "".join(
        f'<th scope="col"{_align_cell(index, named)}>{escape(name)}</th>' for index, name in enumerate(heads)
    )
    body = "".join(f"<tr>{_build_cells(heads, row, named)}</tr>" for row in rows)
    box = "box tall" if len(rows) > TALL else "box"
    kind = f"{kind} wide" if len(heads) > NARROW else kind
    # What scrolls can be reached by the keyboard: tabindex.
    return Html(
        f'<div class="{box} {escape(kind)}" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def build_facts(pairs: Iterable[tuple[str, Html]]) -> Html:
    """Names and values as a list; nothing where there are none."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return Html(f'<dl class="facts">{items}</dl>' if items else "")


def build_tiles(items: Iterable[tuple[str, Html, str]]) -> Html:
    """The few numbers that a reader looks for first: name, value, and a remark below it, which is markup."""
    entries = "".join(
        f"<div><dt>{escape(name)}</dt><dd><b>{value}</b><small>{remark}</small></dd></div>"
        for name, value, remark in items
    )
    return Html(f'<dl class="tiles">{entries}</dl>')


def embed_picture(pictures: Mapping[str, Path], name: str, caption: str) -> Html:
    """A PNG inlined as a data URI, at 100 pixels an inch; nothing where it was not drawn.

    Raises:
        OSError: the picture cannot be read.
    """
    if name not in pictures:
        return Html("")
    content = pictures[name].read_bytes()
    (wide,) = struct.unpack(">I", content[16:20])  # PNG, section 11.2.2: the width opens the header chunk
    data = base64.b64encode(content).decode()
    image = f'<img alt="{escape(caption)}" width="{wide * 100 // DPI}" src="data:image/png;base64,{data}">'
    return Html(
        f'<figure><div class="box" tabindex="0">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'
    )


def build_note(sentence: str) -> Html:
    """A sentence of explanation."""
    return Html(f'<p class="note">{escape(sentence)}</p>')


def add_heading(title: str, content: Html) -> Html:
    """Content under a heading; nothing where there is no content."""
    return Html(f"<h3>{escape(title)}</h3>{content}" if content else "")


def join_parts(*parts: Html) -> Html:
    """Parts one after the other."""
    return Html("".join(parts))


def _typeset_minus(digits: str) -> Html:
    zero = digits.startswith("-") and not digits.strip("-0.,")
    return Html(digits[1:] if zero else digits.replace("-", "\N{MINUS SIGN}"))


def _align_cell(index: int, named: int) -> str:
    return "" if index < named else ' class="number"'


def _build_cells(heads: Sequence[str], row: Sequence[Html], named: int) -> str:
    """The cells of a row; each carries its heading for a screen too narrow for columns."""
    first = f'<th scope="row">{row[0]}</th>'
    return first + "".join(
        f'<td{_align_cell(index, named)} data-head="{escape(heads[index])}">{cell}</td>'
        for index, cell in enumerate(row[1:], 1)
    )
