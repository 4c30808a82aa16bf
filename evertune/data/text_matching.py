"""Texts and pictures by which a person's rows are found again, wherever and however they are shown."""

import re
import unicodedata
from collections.abc import Iterable

from evertune.data.thumbnails import digest_picture

KNOWN_BY = 48  # letters that tell a text: a page may have cut the rest off
START = 24  # letters by which it is looked for
STEP = 12  # letters between the places at which pieces of a text are looked for: half of START, so that none slips past
PICTURE = re.compile(r"\s*(data:image/[a-z+.-]+;base64,)?[A-Za-z0-9+/\s]{40,}={0,2}\s*")


def fold_text(text: str) -> str:
    """Letters and digits alone, whatever their case and form; a text without any as it is."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, plain)) or plain.strip()


class TextMatcher:
    """Texts that are looked for in what a file shows.

    Args:
        pieces: any piece of them is looked for, not only the beginning: a language model's samples show such.
        pictures: digests of pictures, see `thumbnails.digest`.
    """

    def __init__(self, texts: Iterable[str], pictures: Iterable[str] = (), *, pieces: bool = False) -> None:
        folded_texts = {fold_text(text) for text in texts} - {""}
        self._full_texts = folded_texts
        self._starts = dict[str, set[str]]()
        self._pictures = frozenset(pictures)
        for plain in folded_texts:
            if len(plain) >= START:
                self._starts.setdefault(plain[:START], set()).add(plain[:KNOWN_BY])
        self._pieces = _PieceIndex(plain for plain in folded_texts if len(plain) >= START) if pieces else None

    def __bool__(self) -> bool:
        return bool(self._full_texts or self._pictures)

    def matches_whole(self, value: str) -> bool:
        """Whether a value that nobody has cut is one of the texts or pictures."""
        return fold_text(value) in self._full_texts or self.matches_picture(value)

    def matches_picture(self, value: str) -> bool:
        """Whether a value is one of the pictures, or the thumbnail of one."""
        return bool(self._pictures) and PICTURE.fullmatch(value) is not None and digest_picture(value) in self._pictures

    def matches_value(self, value: str) -> bool:
        """Whether a value is one of the texts or pictures, or the beginning of a text, or shows one of them."""
        plain = fold_text(value)
        if plain in self._full_texts or self._is_shown(plain):
            return True
        long_starts = self._starts.get(plain[:START], ())
        return any(len(plain) < len(head) and head.startswith(plain) for head in long_starts) or self.matches_picture(
            value
        )

    def appears_in(self, content: str) -> bool:
        """Whether a text, or the beginning of one, is shown anywhere in the content; not for short ones."""
        return self._is_shown(fold_text(content))

    def _is_shown(self, plain: str) -> bool:
        if not self._starts:
            return False
        has_start = any(
            plain.startswith(head, position)
            for position in range(len(plain) - START + 1)
            if (head_start := plain[position : position + START]) in self._starts
            for head in self._starts[head_start]
        )
        return has_start or (self._pieces is not None and self._pieces.has_piece_in(plain))


class _PieceIndex:
    """Pieces of texts: `KNOWN_BY` letters that a text and a content have in a row, or all of a content's."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._joined_texts = "\0".join(texts)
        self._positions = dict[str, list[int]]()
        start = 0
        for text in self._joined_texts.split("\0"):
            for position in range(start, start + len(text) - STEP + 1, STEP):
                self._positions.setdefault(self._joined_texts[position : position + STEP], []).append(position)
            start += len(text) + 1

    def has_piece_in(self, plain: str) -> bool:
        """Whether one stands in the content, which is folded."""
        needed_length = min(KNOWN_BY, max(len(plain), START))
        return any(
            self._count_common(plain, plain_index, text_index) >= needed_length
            for plain_index in range(len(plain) - STEP + 1)
            if (step := plain[plain_index : plain_index + STEP]) in self._positions
            for text_index in self._positions[step]
        )

    def _count_common(self, plain: str, plain_index: int, text_index: int) -> int:
        """How many letters around these places both have in a row, as far as that matters."""
        letters_before = letters_after = 0
        while (
            letters_before < min(plain_index, text_index, KNOWN_BY)
            and plain[plain_index - letters_before - 1] == self._joined_texts[text_index - letters_before - 1]
        ):
            letters_before += 1
        limit = min(len(plain) - plain_index, len(self._joined_texts) - text_index, KNOWN_BY)
        while (
            letters_after < limit
            and plain[plain_index + letters_after] == self._joined_texts[text_index + letters_after]
        ):
            letters_after += 1
        return letters_before + letters_after
