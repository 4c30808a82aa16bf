"""The baseline of language modelling: an interpolated Kneser-Ney model of bytes (Chen & Goodman 1999, section 3).

`python -m benchmarks.quality.ngrams RECIPE`, after a run of it: bits a byte on the recipe's own train and test rows.
"""

import logging
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from evertune.config import load_recipe
from evertune.data.corpus import transactions as corpus
from evertune.objectives import load_objective
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
            self._learn_text(_text_symbols(text, order))
        for size in range(order - 1, 0, -1):
            for context, following in self._counts[size].items():
                shorter = self._counts[size - 1][context[1:]]
                for symbol in following:
                    shorter[symbol] = shorter.get(symbol, 0) + 1
        self._discounts = [_estimate_discount(counts) for counts in self._counts]
        self._totals = [{key: sum(by_symbol.values()) for key, by_symbol in counts.items()} for counts in self._counts]

    def _learn_text(self, symbols: Sequence[int]) -> None:
        size = self._order - 1
        for index in range(size, len(symbols)):
            following = self._counts[size][tuple(symbols[index - size : index])]
            following[symbols[index]] = following.get(symbols[index], 0) + 1

    def count_nats(self, text: str) -> float:
        """How unlikely a text, and its end, is."""
        size = self._order - 1
        symbols = _text_symbols(text, self._order)
        return -sum(
            math.log(self._symbol_probability(tuple(symbols[index - size : index]), symbols[index]))
            for index in range(size, len(symbols))
        )

    def _symbol_probability(self, context: tuple[int, ...], symbol: int) -> float:
        probability = 1 / VOCABULARY
        for size in range(self._order):
            key = context[len(context) - size :]
            total = self._totals[size].get(key)
            if total is None:
                break  # no longer context is known either
            following = self._counts[size][key]
            discount = self._discounts[size]
            remaining = discount * len(following) / total
            probability = max(following.get(symbol, 0) - discount, 0) / total + remaining * probability
        return probability


def bits_per_byte(train: Iterable[str], test: Sequence[str], order: int = 5) -> float:
    """Of the test texts, by a model of the train texts."""
    model = KneserNey(train, order)
    return sum(map(model.count_nats, test)) / sum(len(text.encode()) for text in test) / math.log(2)


def score_recipe(path: str, order: int = 5) -> dict[str, Any]:
    """What the baseline reaches on the rows that a recipe's newest snapshot trains and tests on.

    Raises:
        EvertuneError: there is no such recipe, or no snapshot of it.
    """
    recipe = load_recipe(path)
    home = home_of(recipe)
    role = str(load_objective(recipe.objective.type).TARGET)
    rows = corpus.read_rows(home, corpus.take_snapshot(home).version, [role, "split"]).to_pylist()
    texts = {split: [row[role] for row in rows if row["split"] == split] for split in ("train", "test")}
    value = bits_per_byte(texts["train"], texts["test"], order)
    return {"order": order, "train": len(texts["train"]), "test": len(texts["test"]), "bits_per_byte": value}


def _text_symbols(text: str, order: int) -> list[int]:
    return [END] * (order - 1) + [*text.encode(), END]


def _estimate_discount(counts: dict[tuple[int, ...], dict[int, int]]) -> float:
    values = [count for following in counts.values() for count in following.values()]
    once = values.count(1)
    twice = values.count(2)
    return once / (once + 2 * twice) if once else 0.5


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.info("%s", score_recipe(sys.argv[1]))
