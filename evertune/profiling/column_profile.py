"""What a column of unknown rows holds: free text, labels, ids, dates, lists of words."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evertune.data.sources.formats import cells
from evertune.data.sources.formats.images import is_picture

PROBED = 1000  # cells, evenly spaced, that are parsed as dates and numbers


@dataclass(frozen=True)
class Profile:
    """One column.

    Args:
        rows: number of cells.
        filled: number of cells that are neither null nor empty.
        counts: value -> cells with it; for a list column: element -> occurrences in the lists.
        lengths: sorted lengths of the filled cells, in characters; for a list column in words.
        words: mean number of words in a cell.
        dated: share of the filled cells that parse as a date or time.
        numeric: share of the filled cells that parse as a number.
    """

    name: str
    rows: int
    filled: int
    counts: Counter[str]
    lengths: Sequence[int]
    words: float
    dated: float
    numeric: float
    is_list: bool = False
    is_picture: bool = False

    @property
    def distinct(self) -> int:
        """Number of distinct values."""
        return len(self.counts)

    @property
    def repeats(self) -> int:
        """Number of rows without a value, or with that of an earlier row."""
        return self.rows - self.distinct

    @property
    def mean_length(self) -> float:
        """Mean length of the filled cells."""
        return sum(self.lengths) / max(1, len(self.lengths))

    def describe(self) -> str:
        """Return a line for a person who has to choose a column."""
        if not self.filled:
            return "empty"
        if self.is_picture:
            return f"images, {self.filled} cells"
        if self.numeric > 0.9:
            kind = "numbers"
        elif self.is_list:
            kind = f"lists of words, {self.words:.1f} a row"
        elif self.dated > 0.9 and self.numeric < 0.5:
            kind = "dates or times"
        else:
            kind = "texts"
        shown = ", ".join(repr(value[:30]) for value, _ in self.counts.most_common(3))
        empty = f", {self.rows - self.filled} empty" if self.filled < self.rows else ""
        return f"{kind}, {self.distinct} distinct in {self.filled} cells{empty}, such as {shown}"


def profile_column(name: str, values: Sequence[object], *, with_lists: bool = True) -> Profile:
    """Profile a column's cells.

    Args:
        name: of the column.
        values: its cells.
        with_lists: treat cells that spell lists as lists.
    """
    filled = [value for value in values if value is not None and value != ""]
    if filled and all(is_picture(value) for value in filled[:PROBED]):
        return Profile(name, len(values), len(filled), Counter(), [0] * len(filled), 0, 0, 0, is_picture=True)
    if with_lists and filled and all(_is_list(value) for value in filled[:PROBED]):
        return profile_words(name, values)
    texts = [text for value in filled if (text := _read_text(value)) is not None]
    probed = texts[:: max(1, len(texts) // PROBED)]
    return Profile(
        name,
        len(values),
        len(texts),
        Counter(texts),
        sorted(map(len, texts)),
        sum(len(text.split()) for text in texts) / max(1, len(texts)),
        sum(map(_is_moment, probed)) / max(1, len(probed)),
        sum(map(_is_number, probed)) / max(1, len(probed)),
    )


def profile_words(name: str, values: Sequence[object]) -> Profile:
    """Profile a column whose cells are lists of words, or words between spaces.

    Raises:
        ValueError: a cell is neither.
    """
    lists = [words for value in values if (words := cells.parse_words(value)) is not None]
    lengths = sorted(map(len, lists))
    counts = Counter(word for cell_words in lists for word in cell_words)
    return Profile(name, len(values), len(lists), counts, lengths, sum(lengths) / max(1, len(lengths)), 0, 0, True)


def _read_text(value: object) -> str | None:
    try:
        return cells.parse_text(value)
    except ValueError:
        return None


def _is_list(value: object) -> bool:
    try:
        return isinstance(value, list) or (isinstance(value, str) and cells.parse_list(value) is not None)
    except ValueError:
        return True  # a list with a broken end


def _is_moment(value: str) -> bool:
    try:
        return cells.parse_moment(value) is not None
    except ValueError:
        return False


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", value) is not None
