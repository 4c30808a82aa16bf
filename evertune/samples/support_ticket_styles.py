"""How a customer types: carefully, all in lower case, hastily with typos, on a phone, or shouting."""

import re
from random import Random

from evertune.samples.support_ticket_shared import EMOJI, HAPPY_EMOJI, SHORT_FORMS

STYLES = {"careful": 46, "lower": 22, "hasty": 18, "phone": 10, "shouting": 4}  # style -> percent of customers
TYPO_RATE = {"careful": 0.006, "lower": 0.015, "hasty": 0.06, "phone": 0.03, "shouting": 0.02}  # typos per word
EMOJI_RATE = {"careful": 0.02, "lower": 0.05, "hasty": 0.06, "phone": 0.35, "shouting": 0.1}

_WORD = re.compile(r"(?<![\w@.-])[a-zA-Z]{4,}(?![\w@])(?!\.\w)")
_SHORT_FORM = re.compile(r"\b(" + "|".join(SHORT_FORMS) + r")\b", re.IGNORECASE)
_NEIGHBOURS = {
    "a": "sq",
    "b": "vn",
    "c": "xv",
    "d": "sf",
    "e": "wr",
    "f": "dg",
    "g": "fh",
    "h": "gj",
    "i": "uo",
    "j": "hk",
    "k": "jl",
    "l": "kö",
    "m": "n",
    "n": "bm",
    "o": "ip",
    "p": "ol",
    "q": "wa",
    "r": "et",
    "s": "ad",
    "t": "ry",
    "u": "yi",
    "v": "cb",
    "w": "qe",
    "x": "zc",
    "y": "tu",
    "z": "xs",
}


def apply_style(text: str, style: str, is_happy: bool, rng: Random) -> str:
    """Return the text as a customer of this style types it."""
    text = _WORD.sub(lambda word: _add_typo(word[0], rng) if rng.random() < TYPO_RATE[style] else word[0], text)
    text = _TYPE_IN_STYLE[style](text, rng)
    if rng.random() < EMOJI_RATE[style]:
        text = f"{text} {rng.choice(HAPPY_EMOJI if is_happy else EMOJI)}"
    return text


def _type_carefully(text: str, rng: Random) -> str:
    return text


def _type_lowercase(text: str, rng: Random) -> str:
    text = text.lower()
    return text.replace("'", "") if rng.random() < 0.5 else text


def _type_hastily(text: str, rng: Random) -> str:
    if rng.random() < 0.4:
        text = text.replace("'", "")
    if rng.random() < 0.3:
        text = text.replace(", ", " ").rstrip(".")
    if rng.random() < 0.3:
        text = text.replace(", ", ",").replace(". ", ".. ")
    return text.replace("?", "??") if rng.random() < 0.3 else text


def _type_on_phone(text: str, rng: Random) -> str:
    text = _SHORT_FORM.sub(lambda word: SHORT_FORMS[word[0].lower()] if rng.random() < 0.6 else word[0], text)
    return text.lower().rstrip(".") if rng.random() < 0.6 else text.rstrip(".")


def _type_shouting(text: str, rng: Random) -> str:
    return re.sub(r"[.!](?=\s|$)", rng.choice(("!", "!!", "!!!")), text.upper())


_TYPE_IN_STYLE = {
    "careful": _type_carefully,
    "lower": _type_lowercase,
    "hasty": _type_hastily,
    "phone": _type_on_phone,
    "shouting": _type_shouting,
}


def _add_typo(word: str, rng: Random) -> str:
    index = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:index] + word[index + 1] + word[index] + word[index + 2 :]
    if kind == 1:
        return word[:index] + word[index + 1 :]
    if kind == 2:
        return word[:index] + word[index] + word[index:]
    return word[:index] + rng.choice(_NEIGHBOURS.get(word[index].lower(), "e")) + word[index + 1 :]
