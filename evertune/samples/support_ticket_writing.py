"""A ticket's message: phrases of its intent, put together in the shapes that real tickets have."""

import re
from collections.abc import Mapping
from random import Random

from evertune.samples.support_ticket_grammar import Facts, expand
from evertune.samples.support_ticket_shared import (
    AMBIGUOUS,
    CONNECTORS,
    FOLLOW_UPS,
    GREETINGS,
    PIVOTS,
    RESENDS,
    SIGNATURES,
    Phrases,
)
from evertune.samples.support_ticket_styles import styled

_SHAPES = {"short": 15, "plain": 47, "long": 24, "two matters": 12, "ambiguous": 2}  # shape -> its weight


def message_of(intent: str, phrases: Phrases, others: Mapping[str, Phrases], facts: Facts, rng: Random) -> str:
    """A new message for the intent; `others` are the intents that it may mention in passing."""
    shape = rng.choices(list(_SHAPES), list(_SHAPES.values()))[0]
    if shape == "ambiguous":
        text = _ambiguous(intent, facts, rng) or _short(phrases, facts, rng)
    elif shape == "short":
        text = _short(phrases, facts, rng)
    elif shape == "plain":
        text = _plain(phrases, facts, rng)
    elif shape == "long":
        text = _long(phrases, facts, rng)
    else:
        text = _two_matters(phrases, others[rng.choice(sorted(others))], facts, rng)
    return styled(_tidy(text), facts["style"], intent == "praise", rng)


def follow_up_of(phrases: Phrases, facts: Facts, rng: Random) -> str:
    """A message of the same customer about the same matter, with other words."""
    parts = [_one(FOLLOW_UPS, facts, rng), _one(phrases.cores, facts, rng)]
    text = _greeted(0.3, parts + _maybe(0.4, phrases.closings, facts, rng), facts, rng)
    return styled(_tidy(text), facts["style"], False, rng)


def resend_of(message: str, rng: Random) -> str:
    """The message once more, as an impatient customer or a double click sends it."""
    return rng.choice(RESENDS).replace("{text}", message)


def _short(phrases: Phrases, facts: Facts, rng: Random) -> str:
    return expand(rng.choice(phrases.shorts), facts, rng)


def _ambiguous(intent: str, facts: Facts, rng: Random) -> str | None:
    fitting = [text for text, intents in AMBIGUOUS if intent in intents]
    return expand(rng.choice(fitting), facts, rng) if fitting else None


def _plain(phrases: Phrases, facts: Facts, rng: Random) -> str:
    parts = _maybe(0.15, phrases.openings, facts, rng)
    parts.append(_one(phrases.cores, facts, rng))
    parts += _maybe(0.15, phrases.stories, facts, rng) + _maybe(0.25, phrases.fillers, facts, rng)
    return _greeted(0.4, parts + _maybe(0.4, phrases.closings, facts, rng), facts, rng)


def _long(phrases: Phrases, facts: Facts, rng: Random) -> str:
    head = _maybe(0.85, GREETINGS, facts, rng, end=",")
    first, second = rng.sample(phrases.stories, 2)
    body = _maybe(0.35, phrases.openings, facts, rng)
    core = [_one(phrases.cores, facts, rng)]
    story = [_sentence(expand(first, facts, rng))]
    body += core + story if rng.random() < 0.4 else story + core
    body += [_sentence(expand(second, facts, rng))] if rng.random() < 0.5 else []
    body += _maybe(0.6, phrases.fillers, facts, rng)
    foot = _maybe(0.8, phrases.closings, facts, rng, end=rng.choice(",.")) + _maybe(0.7, SIGNATURES, facts, rng, end="")
    gap = rng.choice(("\n", "\n\n", " ", " "))
    return gap.join(part for part in (*head, " ".join(body), " ".join(foot)) if part)


def _two_matters(phrases: Phrases, other: Phrases, facts: Facts, rng: Random) -> str:
    core = expand(rng.choice(phrases.cores), facts, rng)
    aside = expand(rng.choice(other.asides), facts, rng)
    if rng.random() < 0.3:
        parts = [_sentence(aside), _sentence(f"{rng.choice(PIVOTS)} {core}")]
    else:
        filler = _maybe(0.3, phrases.fillers, facts, rng)
        parts = [_sentence(core), *filler, _sentence(f"{rng.choice(CONNECTORS)} {aside}")]
    return _greeted(0.5, parts + _maybe(0.5, phrases.closings, facts, rng), facts, rng)


def _greeted(chance: float, parts: list[str], facts: Facts, rng: Random) -> str:
    text = " ".join(parts)
    greeting = _maybe(chance, GREETINGS, facts, rng, end=rng.choice((",", ",", "!", "")))
    if greeting and text[1].islower() and rng.random() < 0.6:
        text = text[0].lower() + text[1:]
    return " ".join([*greeting, text])


def _one(phrases: tuple[str, ...], facts: Facts, rng: Random) -> str:
    return _sentence(expand(rng.choice(phrases), facts, rng))


def _maybe(chance: float, phrases: tuple[str, ...], facts: Facts, rng: Random, end: str = ".") -> list[str]:
    return [_sentence(expand(rng.choice(phrases), facts, rng), end)] if rng.random() < chance else []


def _sentence(text: str, end: str = ".") -> str:
    text = text[0].upper() + text[1:]
    if text.endswith("..") and not text.endswith("..."):  # a date such as 26.1. ends the sentence itself
        return text[:-1]
    return text if text[-1] in ".?!:," else text + end


def _tidy(text: str) -> str:
    return re.sub(r" +(?=[ .,?!])", "", text)  # what an empty alternative leaves behind
