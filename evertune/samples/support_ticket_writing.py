"""Write a ticket's message: phrases of its intent, in the shapes that real tickets have."""

import re
from collections.abc import Mapping
from random import Random

from evertune.samples.support_ticket_grammar import Facts, expand_phrase
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
from evertune.samples.support_ticket_styles import apply_style

_SHAPES = {"short": 15, "plain": 47, "long": 24, "two matters": 12, "ambiguous": 2}  # shape -> percent of messages


def write_message(intent: str, phrases: Phrases, others: Mapping[str, Phrases], facts: Facts, rng: Random) -> str:
    """Return a new message for the intent.

    Args:
        phrases: phrases of the intent.
        others: intent -> phrases, for those that the message may mention in passing.
        facts: facts of the ticket; slots that are drawn are added.
    """
    shape = rng.choices(list(_SHAPES), list(_SHAPES.values()))[0]
    if shape == "ambiguous":
        text = _write_ambiguous(intent, facts, rng) or _write_short(phrases, facts, rng)
    elif shape == "short":
        text = _write_short(phrases, facts, rng)
    elif shape == "plain":
        text = _write_plain(phrases, facts, rng)
    elif shape == "long":
        text = _write_long(phrases, facts, rng)
    else:
        text = _write_two_matters(phrases, others[rng.choice(sorted(others))], facts, rng)
    return apply_style(_tidy_spaces(text), facts["style"], intent == "praise", rng)


def write_follow_up(phrases: Phrases, facts: Facts, rng: Random) -> str:
    """Return another message of the same customer about the same matter."""
    parts = [_pick_sentence(FOLLOW_UPS, facts, rng), _pick_sentence(phrases.cores, facts, rng)]
    text = _add_greeting(0.3, parts + _maybe_sentence(0.4, phrases.closings, facts, rng), facts, rng)
    return apply_style(_tidy_spaces(text), facts["style"], False, rng)


def write_resend(message: str, rng: Random) -> str:
    """Return the message as an impatient customer, or a double click, sends it again."""
    return rng.choice(RESENDS).replace("{text}", message)


def _write_short(phrases: Phrases, facts: Facts, rng: Random) -> str:
    return expand_phrase(rng.choice(phrases.shorts), facts, rng)


def _write_ambiguous(intent: str, facts: Facts, rng: Random) -> str | None:
    candidates = [text for text, intents in AMBIGUOUS if intent in intents]
    return expand_phrase(rng.choice(candidates), facts, rng) if candidates else None


def _write_plain(phrases: Phrases, facts: Facts, rng: Random) -> str:
    parts = _maybe_sentence(0.15, phrases.openings, facts, rng)
    parts.append(_pick_sentence(phrases.cores, facts, rng))
    parts += _maybe_sentence(0.15, phrases.stories, facts, rng) + _maybe_sentence(0.25, phrases.fillers, facts, rng)
    return _add_greeting(0.4, parts + _maybe_sentence(0.4, phrases.closings, facts, rng), facts, rng)


def _write_long(phrases: Phrases, facts: Facts, rng: Random) -> str:
    head = _maybe_sentence(0.85, GREETINGS, facts, rng, end=",")
    first, second = rng.sample(phrases.stories, 2)
    body = _maybe_sentence(0.35, phrases.openings, facts, rng)
    core = [_pick_sentence(phrases.cores, facts, rng)]
    story = [_end_sentence(expand_phrase(first, facts, rng))]
    body += core + story if rng.random() < 0.4 else story + core
    body += [_end_sentence(expand_phrase(second, facts, rng))] if rng.random() < 0.5 else []
    body += _maybe_sentence(0.6, phrases.fillers, facts, rng)
    foot = _maybe_sentence(0.8, phrases.closings, facts, rng, end=rng.choice(",."))
    foot += _maybe_sentence(0.7, SIGNATURES, facts, rng, end="")
    gap = rng.choice(("\n", "\n\n", " ", " "))
    return gap.join(part for part in (*head, " ".join(body), " ".join(foot)) if part)


def _write_two_matters(phrases: Phrases, other: Phrases, facts: Facts, rng: Random) -> str:
    core = expand_phrase(rng.choice(phrases.cores), facts, rng)
    aside = expand_phrase(rng.choice(other.asides), facts, rng)
    if rng.random() < 0.3:
        parts = [_end_sentence(aside), _end_sentence(f"{rng.choice(PIVOTS)} {core}")]
    else:
        filler = _maybe_sentence(0.3, phrases.fillers, facts, rng)
        parts = [_end_sentence(core), *filler, _end_sentence(f"{rng.choice(CONNECTORS)} {aside}")]
    return _add_greeting(0.5, parts + _maybe_sentence(0.5, phrases.closings, facts, rng), facts, rng)


def _add_greeting(chance: float, parts: list[str], facts: Facts, rng: Random) -> str:
    text = " ".join(parts)
    greeting = _maybe_sentence(chance, GREETINGS, facts, rng, end=rng.choice((",", ",", "!", "")))
    if greeting and text[1].islower() and rng.random() < 0.6:
        text = text[0].lower() + text[1:]
    return " ".join([*greeting, text])


def _pick_sentence(phrases: tuple[str, ...], facts: Facts, rng: Random) -> str:
    return _end_sentence(expand_phrase(rng.choice(phrases), facts, rng))


def _maybe_sentence(chance: float, phrases: tuple[str, ...], facts: Facts, rng: Random, end: str = ".") -> list[str]:
    """Return one sentence with this probability, else none."""
    if rng.random() >= chance:
        return []
    return [_end_sentence(expand_phrase(rng.choice(phrases), facts, rng), end)]


def _end_sentence(text: str, end: str = ".") -> str:
    text = text[0].upper() + text[1:]
    if text.endswith("..") and not text.endswith("..."):  # the text ends in a date such as 26.1.
        return text[:-1]
    return text if text[-1] in ".?!:," else text + end


def _tidy_spaces(text: str) -> str:
    """Remove the spaces that an empty alternative leaves behind."""
    return re.sub(r" +(?=[ .,?!])", "", text)
