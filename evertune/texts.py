"""Texts by which a person's rows are found again, wherever and however they are shown."""

import unicodedata
from collections.abc import Iterable

KNOWN_BY = 48  # letters that tell a text: a page may have cut the rest off
START = 24  # letters by which it is looked for


def folded(text: str) -> str:
    """Letters and digits alone, whatever their case and form; a text without any as it is."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, plain)) or plain.strip()


class Texts:
    """Texts that are looked for in what a file shows."""

    def __init__(self, texts: Iterable[str]) -> None:
        found = {folded(text) for text in texts} - {""}
        self._whole, self._starts = found, dict[str, set[str]]()
        for one in found:
            if len(one) >= START:
                self._starts.setdefault(one[:START], set()).add(one[:KNOWN_BY])

    def __bool__(self) -> bool:
        return bool(self._whole)

    def is_one(self, value: str) -> bool:
        """Whether a value is one of the texts, or the beginning of one."""
        plain = folded(value)
        if plain in self._whole:
            return True
        heads = self._starts.get(plain[:START], ())
        return any(plain.startswith(head) or (len(plain) < len(head) and head.startswith(plain)) for head in heads)

    def within(self, content: str) -> bool:
        """Whether one of the texts, or the beginning of one, is shown anywhere in the content; not for short ones."""
        if not self._starts:
            return False
        plain = folded(content)
        return any(
            plain.startswith(head, place)
            for place in range(len(plain) - START + 1) if (head_start := plain[place : place + START]) in self._starts
            for head in self._starts[head_start]
        )  # fmt: skip
