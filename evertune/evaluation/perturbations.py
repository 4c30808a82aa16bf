"""Behavioural tests: small changes of a text and what they may do to an answer (Ribeiro et al. 2020, CheckList).

Each is drawn from the words and the seed alone, so that every model meets the same. Words keep their number, but where
one is denied.
"""

import random
import re
from collections.abc import Callable, Sequence

WORD = re.compile(r"\w+")
LETTERS = re.compile(r"[^\W\d_]{4,}")
TYPOS = 0.1  # share of the words of four letters or more, at least one
NAMES = (
    "James", "Mary", "Robert", "Maria", "David", "Anna", "Michael", "Laura", "Daniel", "Sarah", "Ahmed", "Fatima",
    "Wei", "Priya", "Carlos", "Elena", "Ivan", "Olga", "Kenji", "Yuki", "Peter", "Susan", "Thomas", "Emma", "John",
    "Julia",
)  # fmt: skip
VERBS = frozenset(
    ("is", "are", "was", "were", "can", "will", "should", "could", "would", "did", "does", "do", "has", "have", "had")
)  # fmt: skip
Change = Callable[[list[str], random.Random], list[str]]


def typos(words: list[str], draw: random.Random) -> list[str]:
    """Two neighbouring letters change places in a tenth of the longer words, in one at least."""
    places = [place for place, word in enumerate(words) if LETTERS.search(word)]
    chosen = draw.sample(places, max(1, round(TYPOS * len(places)))) if places else []
    return [_swapped(word, draw) if place in chosen else word for place, word in enumerate(words)]


def _swapped(word: str, draw: random.Random) -> str:
    found = LETTERS.search(word)
    assert found is not None
    places = [at for at in range(found.start(), found.end() - 1) if word[at] != word[at + 1]]
    if not places:
        return word
    at = draw.choice(places)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def case(words: list[str], draw: random.Random) -> list[str]:
    """All in capitals, or in small letters where it is so already."""
    raised = [word.upper() for word in words]
    return raised if raised != words else [word.lower() for word in words]


def punctuation(words: list[str], draw: random.Random) -> list[str]:
    """The last sign of a text is taken away, or one is put there; a word that is all signs stays."""
    if not words or not words[-1]:
        return words
    bare = words[-1].rstrip(".,;:!?")
    last = words[-1] + draw.choice("!.?") if bare == words[-1] else bare or words[-1]
    return [*words[:-1], last]


def names(words: list[str], draw: random.Random) -> list[str]:
    """First names become other ones."""
    return [_renamed(word, draw) for word in words]


def _renamed(word: str, draw: random.Random) -> str:
    found = WORD.search(word)
    if found is None or found[0] not in NAMES:
        return word
    other = draw.choice([name for name in NAMES if name != found[0]])
    return word[: found.start()] + other + word[found.end() :]


def negation(words: list[str], draw: random.Random) -> list[str]:
    """The first auxiliary verb is denied: what is said is the opposite, and so should the answer be."""
    for place, word in enumerate(words):
        if word.lower() in VERBS and words[place + 1 : place + 2] != ["not"]:
            return [*words[: place + 1], "not", *words[place + 1 :]]
    return words


CHANGES: dict[str, Change] = {
    "typos": typos, "case": case, "punctuation": punctuation, "names": names, "negation": negation,
}  # fmt: skip


def changed(test: str, given: str | Sequence[str], seed: int) -> str | list[str]:
    """The text, or the words of it, as the test changes it; the same each time."""
    words = given.split(" ") if isinstance(given, str) else list(given)
    found = CHANGES[test](words, random.Random(f"{seed} {test} {' '.join(words)}"))
    return " ".join(found) if isinstance(given, str) else found
