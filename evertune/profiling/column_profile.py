"""What a column of unknown rows looks like: free text, a label, an id, a moment, a list of words."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evertune.data.sources.formats import cells
from evertune.data.sources.formats.images import is_picture

PROBED = 1000  # cells, evenly spaced, that are tried as dates and numbers


@dataclass(frozen=True)
class Profile:
    """One column.

    Args:
        rows, filled: cells, and those of them that are not null.
        counts: value -> cells with it; of a list column: element -> how often it stands in the lists.
        lengths: sorted lengths of the filled cells, in characters; of a list column in words.
        words: mean number of words in a cell.
        dated, numeric: shares of the filled cells that parse as a moment, as a number.
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
        """How many values there are."""
        return len(self.counts)

    @property
    def repeats(self) -> int:
        """Rows whose value stands in a row before, or that have none."""
        return self.rows - self.distinct

    @property
    def mean_length(self) -> float:
        """Mean length of the filled cells."""
        return sum(self.lengths) / max(1, len(self.lengths))

    def describe(self) -> str:
        """A line for a person who has to choose."""
        if not self.filled:
            return "empty"
        kind = (
            f"lists of words, {self.words:.1f} a row"
            if self.is_list
            else "pictures"
            if self.is_picture
            else "moments"
            if self.dated > 0.9 and self.numeric < 0.5
            else "texts"
        )
        kind = "numbers" if self.numeric > 0.9 else kind
        if self.is_picture:
            return f"{kind}, {self.filled} cells"
        shown = ", ".join(repr(value[:30]) for value, _ in self.counts.most_common(3))
        empty = f", {self.rows - self.filled} empty" if self.filled < self.rows else ""
        return f"{kind}, {self.distinct} distinct in {self.filled} cells{empty}, such as {shown}"


def profile_column(name: str, values: Sequence[Any], *, with_lists: bool = True) -> Profile:
    """The profile of a column's cells.

    Args:
        lists: whether cells that spell lists are taken as lists.
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


def profile_words(name: str, values: Sequence[Any]) -> Profile:
    """The profile of a column whose cells are lists of words, or words between spaces.

    Raises:
        ValueError: a cell is neither.
    """
    lists = [words for value in values if (words := cells.parse_words(value)) is not None]
    lengths = sorted(map(len, lists))
    counts = Counter(word for cell_words in lists for word in cell_words)
    return Profile(name, len(values), len(lists), counts, lengths, sum(lengths) / max(1, len(lengths)), 0, 0, True)


def _read_text(value: Any) -> str | None:
    try:
        return cells.parse_text(value)
    except ValueError:
        return None


def _is_list(value: Any) -> bool:
    try:
        return isinstance(value, list) or (isinstance(value, str) and cells.parse_list(value) is not None)
    except ValueError:
        return True  # a list that is not whole


def _is_moment(value: str) -> bool:
    try:
        return cells.parse_moment(value) is not None
    except ValueError:
        return False


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", value) is not None
