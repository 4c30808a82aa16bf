"""Texts and pictures by which a person's rows are found again, wherever and however they are shown."""

import re
import unicodedata
from collections.abc import Iterable

from evertune.data.thumbnails import digest

KNOWN_BY = 48  # letters that tell a text: a page may have cut the rest off
START = 24  # letters by which it is looked for
STEP = 12  # letters between the places at which pieces of a text are looked for: half of START, so that none slips past
PICTURE = re.compile(r"\s*(data:image/[a-z+.-]+;base64,)?[A-Za-z0-9+/\s]{40,}={0,2}\s*")


def folded(text: str) -> str:
    """Letters and digits alone, whatever their case and form; a text without any as it is."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, plain)) or plain.strip()


class Texts:
    """Texts that are looked for in what a file shows.

    Args:
        pieces: any piece of them is looked for, not only the beginning: a language model's samples show such.
        pictures: digests of pictures, see `thumbnails.digest`.
    """

    def __init__(self, texts: Iterable[str], pictures: Iterable[str] = (), *, pieces: bool = False) -> None:
        found = {folded(text) for text in texts} - {""}
        self._whole, self._starts, self._pictures = found, dict[str, set[str]](), frozenset(pictures)
        for one in found:
            if len(one) >= START:
                self._starts.setdefault(one[:START], set()).add(one[:KNOWN_BY])
        self._pieces = _Pieces(one for one in found if len(one) >= START) if pieces else None

    def __bool__(self) -> bool:
        return bool(self._whole or self._pictures)

    def is_whole(self, value: str) -> bool:
        """Whether a value that nobody has cut is one of the texts or pictures."""
        return folded(value) in self._whole or self.is_picture(value)

    def is_picture(self, value: str) -> bool:
        """Whether a value is one of the pictures, or the thumbnail of one."""
        return bool(self._pictures) and PICTURE.fullmatch(value) is not None and digest(value) in self._pictures

    def shows(self, value: str) -> bool:
        """Whether a value is one of the texts or pictures, or the beginning of a text, or shows one of them."""
        plain = folded(value)
        if plain in self._whole or self._shown(plain):
            return True
        heads = self._starts.get(plain[:START], ())
        return any(len(plain) < len(head) and head.startswith(plain) for head in heads) or self.is_picture(value)

    def within(self, content: str) -> bool:
        """Whether a text, or the beginning of one, is shown anywhere in the content; not for short ones."""
        return self._shown(folded(content))

    def _shown(self, plain: str) -> bool:
        if not self._starts:
            return False
        begun = any(
            plain.startswith(head, place)
            for place in range(len(plain) - START + 1) if (head_start := plain[place : place + START]) in self._starts
            for head in self._starts[head_start]
        )  # fmt: skip
        return begun or (self._pieces is not None and self._pieces.within(plain))


class _Pieces:
    """Pieces of texts: `KNOWN_BY` letters that a text and a content have in a row, or all of a content's."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._all, self._places = "\0".join(texts), dict[str, list[int]]()
        start = 0
        for one in self._all.split("\0"):
            for place in range(start, start + len(one) - STEP + 1, STEP):
                self._places.setdefault(self._all[place : place + STEP], []).append(place)
            start += len(one) + 1

    def within(self, plain: str) -> bool:
        """Whether one stands in the content, which is folded."""
        wanted = min(KNOWN_BY, max(len(plain), START))
        return any(
            self._common(plain, here, there) >= wanted
            for here in range(len(plain) - STEP + 1) if (step := plain[here : here + STEP]) in self._places
            for there in self._places[step]
        )  # fmt: skip

    def _common(self, plain: str, here: int, there: int) -> int:
        """How many letters around these places both have in a row, as far as that matters."""
        before = after = 0
        while before < min(here, there, KNOWN_BY) and plain[here - before - 1] == self._all[there - before - 1]:
            before += 1
        most = min(len(plain) - here, len(self._all) - there, KNOWN_BY)
        while after < most and plain[here + after] == self._all[there + after]:
            after += 1
        return before + after
