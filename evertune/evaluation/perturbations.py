"""Small changes of a text for robustness tests (Ribeiro et al. 2020, CheckList).

Each change depends on the words and the seed alone, so that every model gets the same text. The number of words stays
the same, except where a verb is negated.
"""

import random
import re
from collections.abc import Callable, Sequence

WORD = re.compile(r"\w+")
LETTERS = re.compile(r"[^\W\d_]{4,}")
TYPOS = 0.1  # share of the words of four letters or more, at least one
NAMES = (
    "James",
    "Mary",
    "Robert",
    "Maria",
    "David",
    "Anna",
    "Michael",
    "Laura",
    "Daniel",
    "Sarah",
    "Ahmed",
    "Fatima",
    "Wei",
    "Priya",
    "Carlos",
    "Elena",
    "Ivan",
    "Olga",
    "Kenji",
    "Yuki",
    "Peter",
    "Susan",
    "Thomas",
    "Emma",
    "John",
    "Julia",
)
VERBS = frozenset(
    ("is", "are", "was", "were", "can", "will", "should", "could", "would", "did", "does", "do", "has", "have", "had")
)
Change = Callable[[list[str], random.Random], list[str]]


def add_typos(words: list[str], draw: random.Random) -> list[str]:
    """Swap two neighbouring letters in a tenth of the longer words, in at least one."""
    candidates = [index for index, word in enumerate(words) if LETTERS.search(word)]
    chosen = draw.sample(candidates, max(1, round(TYPOS * len(candidates)))) if candidates else []
    return [_swap_letters(word, draw) if index in chosen else word for index, word in enumerate(words)]


def _swap_letters(word: str, draw: random.Random) -> str:
    letters = LETTERS.search(word)
    assert letters is not None
    positions = [
        position for position in range(letters.start(), letters.end() - 1) if word[position] != word[position + 1]
    ]
    if not positions:
        return word
    position = draw.choice(positions)
    return word[:position] + word[position + 1] + word[position] + word[position + 2 :]


def change_case(words: list[str], draw: random.Random) -> list[str]:
    """Write all in upper case, or in lower case if it already is in upper case."""
    uppercased = [word.upper() for word in words]
    return uppercased if uppercased != words else [word.lower() for word in words]


def change_punctuation(words: list[str], draw: random.Random) -> list[str]:
    """Remove the punctuation at the end of a text, or add some; a word of punctuation alone stays."""
    if not words or not words[-1]:
        return words
    last_word = words[-1]
    stripped = last_word.rstrip(".,;:!?")
    if stripped == last_word:
        last_word += draw.choice("!.?")
    elif stripped:
        last_word = stripped
    return [*words[:-1], last_word]


def change_names(words: list[str], draw: random.Random) -> list[str]:
    """Replace first names by others."""
    return [_replace_name(word, draw) for word in words]


def _replace_name(word: str, draw: random.Random) -> str:
    match = WORD.search(word)
    if match is None or match[0] not in NAMES:
        return word
    replacement = draw.choice([name for name in NAMES if name != match[0]])
    return word[: match.start()] + replacement + word[match.end() :]


def negate_verb(words: list[str], draw: random.Random) -> list[str]:
    """Negate the first auxiliary verb: the text says the opposite, and so should the answer."""
    for index, word in enumerate(words):
        if word.lower() in VERBS and words[index + 1 : index + 2] != ["not"]:
            return [*words[: index + 1], "not", *words[index + 1 :]]
    return words


CHANGES: dict[str, Change] = {
    "typos": add_typos,
    "case": change_case,
    "punctuation": change_punctuation,
    "names": change_names,
    "negation": negate_verb,
}


def perturb_text(test: str, text: str | Sequence[str], seed: int) -> str | list[str]:
    """Return the text, or its words, as the test changes it; the same each time."""
    words = text.split(" ") if isinstance(text, str) else list(text)
    changed_words = CHANGES[test](words, random.Random(f"{seed} {test} {' '.join(words)}"))
    return " ".join(changed_words) if isinstance(text, str) else changed_words
