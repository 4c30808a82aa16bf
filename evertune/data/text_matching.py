"""Find a person's texts and pictures again wherever they are shown, whole or in part."""

import re
import unicodedata
from collections.abc import Iterable

from evertune.data.thumbnails import digest_picture

KNOWN_BY = 48  # letters that identify a text: a page may have cut off the rest
START = 24  # letters of a text's beginning that are looked up first
STEP = 12  # letters between the indexed pieces of a text: half of START, so that no piece of START letters is missed
PICTURE = re.compile(r"\s*(data:image/[a-z+.-]+;base64,)?[A-Za-z0-9+/\s]{40,}={0,2}\s*")


def fold_text(text: str) -> str:
    """Return the letters and digits of a text in one case and Unicode form; a text without any is only stripped."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, plain)) or plain.strip()


class TextMatcher:
    """Matches the values and contents of files against a person's texts and pictures.

    Args:
        pictures: digests of pictures, see `thumbnails.digest_picture`.
        pieces: whether any piece of a text matches, not only its beginning: samples of a language model show such.
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
        """Whether an uncut value is one of the texts or pictures."""
        return fold_text(value) in self._full_texts or self.matches_picture(value)

    def matches_picture(self, value: str) -> bool:
        """Whether a value is one of the pictures, or the thumbnail of one."""
        return bool(self._pictures) and PICTURE.fullmatch(value) is not None and digest_picture(value) in self._pictures

    def matches_value(self, value: str) -> bool:
        """Whether a value is one of the texts or pictures, the beginning of a text, or contains a text."""
        plain = fold_text(value)
        if plain in self._full_texts or self._is_shown(plain):
            return True
        heads = self._starts.get(plain[:START], ())
        if any(len(plain) < len(head) and head.startswith(plain) for head in heads):
            return True
        return self.matches_picture(value)

    def appears_in(self, content: str) -> bool:
        """Whether a text, or its beginning, appears anywhere in the content; short texts are not looked for."""
        return self._is_shown(fold_text(content))

    def _is_shown(self, plain: str) -> bool:
        if not self._starts:
            return False
        if self._has_start_in(plain):
            return True
        return self._pieces is not None and self._pieces.has_piece_in(plain)

    def _has_start_in(self, plain: str) -> bool:
        for position in range(len(plain) - START + 1):
            for head in self._starts.get(plain[position : position + START], ()):
                if plain.startswith(head, position):
                    return True
        return False


class _PieceIndex:
    """Finds pieces of texts: `KNOWN_BY` consecutive letters that a text and a content share, or all of the content."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._joined_texts = "\0".join(texts)
        self._positions = dict[str, list[int]]()
        start = 0
        for text in self._joined_texts.split("\0"):
            for position in range(start, start + len(text) - STEP + 1, STEP):
                self._positions.setdefault(self._joined_texts[position : position + STEP], []).append(position)
            start += len(text) + 1

    def has_piece_in(self, plain: str) -> bool:
        """Whether a piece of a text appears in the content, which must be folded."""
        needed_length = min(KNOWN_BY, max(len(plain), START))
        for plain_index in range(len(plain) - STEP + 1):
            for text_index in self._positions.get(plain[plain_index : plain_index + STEP], ()):
                if self._count_common(plain, plain_index, text_index) >= needed_length:
                    return True
        return False

    def _count_common(self, plain: str, plain_index: int, text_index: int) -> int:
        """Return how many letters both have in common around these indices, up to `KNOWN_BY` in each direction."""
        texts = self._joined_texts
        before = 0
        limit = min(plain_index, text_index, KNOWN_BY)
        while before < limit and plain[plain_index - before - 1] == texts[text_index - before - 1]:
            before += 1
        after = 0
        limit = min(len(plain) - plain_index, len(texts) - text_index, KNOWN_BY)
        while after < limit and plain[plain_index + after] == texts[text_index + after]:
            after += 1
        return before + after
