"""What a page shows, as plain data. Texts are plain text: the templates escape them and lay them out."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from evertune.data.thumbnails import URI
from evertune.report.formatting import is_number

DPI = 150  # of the pictures
CSS_DPI = 100  # pixels that an inch of a picture takes on the page

Tone = Literal["", "good", "bad"]


@dataclass(frozen=True, slots=True)
class Words:
    """A text from the data; it keeps its line breaks and its writing direction."""

    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture from the data, as a data URI."""

    kind: ClassVar[str] = "thumbnail"
    uri: str


@dataclass(frozen=True, slots=True)
class Label:
    """A long name, which may break after `_`, `=`, `/`, `.` and `-`."""

    kind: ClassVar[str] = "label"
    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Toned:
    """A text in the colour of its meaning.

    Args:
        strong: in bold.
    """

    kind: ClassVar[str] = "toned"
    text: str | None
    tone: Tone
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Chief:
    """The cell that makes its whole row bold."""

    kind: ClassVar[str] = "chief"
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its number.

    Args:
        width: in percent of the full length.
        quiet: in grey, for what is neither good nor bad.
    """

    kind: ClassVar[str] = "bar"
    width: float
    text: str | None
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A link to another page of the same home."""

    kind: ClassVar[str] = "link"
    text: str
    path: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A cell with a remark below it."""

    kind: ClassVar[str] = "noted"
    cell: "Cell"
    remark: str


@dataclass(frozen=True, slots=True)
class Titled:
    """A bold title, a text, and an explanation below them."""

    kind: ClassVar[str] = "titled"
    title: str
    text: str
    remark: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Cells one below the other."""

    kind: ClassVar[str] = "lines"
    cells: "Sequence[Cell]"


Cell = str | None | Words | Thumbnail | Label | Toned | Chief | Bar | Link | Noted | Titled | Lines


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        kind: numbers, intervals and times stay on one line, the first two at the right; a `prose` cell may be long.
    """

    head: str
    kind: Literal["text", "number", "interval", "time", "prose"]


def text(head: str) -> Column:
    """Return a column of short texts."""
    return Column(head, "text")


def number(head: str) -> Column:
    """Return a column of numbers."""
    return Column(head, "number")


def interval(head: str) -> Column:
    """Return a column of intervals."""
    return Column(head, "interval")


def time(head: str) -> Column:
    """Return a column of times."""
    return Column(head, "time")


def prose(head: str) -> Column:
    """Return a column of long texts."""
    return Column(head, "prose")


@dataclass(frozen=True, slots=True)
class Table:
    """A table, which a page leaves out where it has no rows.

    Args:
        fit: as narrow as its content.
        hidden: rows that are not shown.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    fit: bool = False
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and its value."""

    name: str
    value: Cell


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the few numbers that a reader looks for first, with a remark."""

    name: str
    value: str | None
    remark: str | None


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG as a data URI.

    Args:
        width: in pixels of the page.
    """

    uri: str
    width: int


@dataclass(frozen=True, slots=True)
class Head:
    """What opens a page: its title, a banner, and the numbers below it.

    Args:
        colour: of the banner: `promoted`, `held`, `rejected` or `unchanged`.
        subject: what the page is about.
        run_id: of the MLflow run that the page belongs to.
    """

    title: str
    colour: str
    subject: str
    headline: str
    sentence: str | None = None
    tiles: Sequence[Tile] = ()
    run_id: str | None = None


def show_data(value: str) -> Words | Thumbnail:
    """Return the cell of a value from the data: a text, or the thumbnail of a picture."""
    return Thumbnail(value) if URI.fullmatch(value) else Words(value)


def make_bar(share: float | None, text: str | None, quiet: bool = False) -> Bar:
    """Return a bar.

    Args:
        share: length, 0 to 1; what is unknown has none.
    """
    width = 100 * min(1.0, max(0.0, share)) if is_number(share) else 0.0
    return Bar(width, text, quiet)


def embed_picture(pictures: Mapping[str, Path], name: str) -> Picture | None:
    """Return a drawn picture; None where it was not drawn.

    Raises:
        OSError: the picture cannot be read.
    """
    if name not in pictures:
        return None
    content = pictures[name].read_bytes()
    (pixels,) = struct.unpack(">I", content[16:20])  # PNG, section 11.2.2: the width opens the header chunk
    return Picture(f"data:image/png;base64,{base64.b64encode(content).decode()}", pixels * CSS_DPI // DPI)
