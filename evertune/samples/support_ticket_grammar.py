"""The grammar of phrases: `[a|b|]` is one of the alternatives, `{name}` a slot, `^` a digit."""

import re
from random import Random

from evertune.samples.support_ticket_shared import SLOTS

Facts = dict[str, str]  # slot -> its text in this ticket

_TOKEN = re.compile(r"\[([^\[\]]*)\]|\{(\w+)\}|\^")


def expand_phrase(phrase: str, facts: Facts, rng: Random) -> str:
    """Return the phrase as text; the first use of a slot draws its text and stores it in `facts`."""

    def fill_token(token: re.Match[str]) -> str:
        options, slot = token.groups()
        if options is not None:
            return expand_phrase(rng.choice(options.split("|")), facts, rng)
        if slot is None:
            return rng.choice("0123456789")
        if slot not in facts:
            facts[slot] = expand_phrase(rng.choice(SLOTS[slot]), facts, rng)
        return facts[slot]

    return _TOKEN.sub(fill_token, phrase)
