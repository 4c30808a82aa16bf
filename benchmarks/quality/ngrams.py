"""The baseline of language modelling: an interpolated Kneser-Ney model of bytes (Chen & Goodman 1999, section 3).

`python -m benchmarks.quality.ngrams RECIPE`, after a run of it: bits a byte on the recipe's own train and test rows.
"""

import logging
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from evertune.config import load
from evertune.data.corpus import transactions as corpus
from evertune.objectives import module
from evertune.runtime.home import home_of

END = 256  # what stands behind a text; before it stand as many as the order has context
VOCABULARY = 257


class KneserNey:
    """Probabilities of the next byte, from the `order - 1` bytes before it.

    Args:
        texts: what it learns from.
    """

    def __init__(self, texts: Iterable[str], order: int = 5) -> None:
        self._order = order
        # Of each length of context: context -> byte -> how often; below the longest, how many contexts end so.
        self._counts = [defaultdict[tuple[int, ...], dict[int, int]](dict) for _ in range(order)]
        for text in texts:
            self._learn(_symbols(text, order))
        for size in range(order - 1, 0, -1):
            for context, following in self._counts[size].items():
                shorter = self._counts[size - 1][context[1:]]
                for symbol in following:
                    shorter[symbol] = shorter.get(symbol, 0) + 1
        self._discounts = [_discount(counts) for counts in self._counts]
        self._totals = [{key: sum(one.values()) for key, one in counts.items()} for counts in self._counts]

    def _learn(self, symbols: Sequence[int]) -> None:
        size = self._order - 1
        for place in range(size, len(symbols)):
            following = self._counts[size][tuple(symbols[place - size : place])]
            following[symbols[place]] = following.get(symbols[place], 0) + 1

    def nats(self, text: str) -> float:
        """How unlikely a text, and its end, is."""
        size, symbols = self._order - 1, _symbols(text, self._order)
        return -sum(
            math.log(self._probability(tuple(symbols[place - size : place]), symbols[place]))
            for place in range(size, len(symbols))
        )

    def _probability(self, context: tuple[int, ...], symbol: int) -> float:
        found = 1 / VOCABULARY
        for size in range(self._order):
            key = context[len(context) - size :]
            total = self._totals[size].get(key)
            if total is None:
                break  # no longer context is known either
            following, discount = self._counts[size][key], self._discounts[size]
            left = discount * len(following) / total
            found = max(following.get(symbol, 0) - discount, 0) / total + left * found
        return found


def bits_per_byte(train: Iterable[str], test: Sequence[str], order: int = 5) -> float:
    """Of the test texts, by a model of the train texts."""
    model = KneserNey(train, order)
    return sum(map(model.nats, test)) / sum(len(text.encode()) for text in test) / math.log(2)


def of_recipe(path: str, order: int = 5) -> dict[str, Any]:
    """What the baseline reaches on the rows that a recipe's newest snapshot trains and tests on.

    Raises:
        EvertuneError: there is no such recipe, or no snapshot of it.
    """
    recipe = load(path)
    home, role = home_of(recipe), str(module(recipe.objective.type).TARGET)
    rows = corpus.rows(home, corpus.snapshot(home).version, [role, "split"]).to_pylist()
    texts = {split: [row[role] for row in rows if row["split"] == split] for split in ("train", "test")}
    value = bits_per_byte(texts["train"], texts["test"], order)
    return {"order": order, "train": len(texts["train"]), "test": len(texts["test"]), "bits_per_byte": value}


def _symbols(text: str, order: int) -> list[int]:
    return [END] * (order - 1) + [*text.encode(), END]


def _discount(counts: dict[tuple[int, ...], dict[int, int]]) -> float:
    values = [count for following in counts.values() for count in following.values()]
    once, twice = values.count(1), values.count(2)
    return once / (once + 2 * twice) if once else 0.5


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.info("%s", of_recipe(sys.argv[1]))
