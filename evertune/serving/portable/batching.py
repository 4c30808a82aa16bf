"""Batches by token budget, not by row count.

A copy of this file travels in every model bundle: it imports no Evertune.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

WINDOW = 50  # batches whose rows are sorted together: enough to pack well, few enough that the order stays random


def pack_batches(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut `order` into batches of at most `budget` tokens, padding counted; a longer row is a batch of its own.

    Args:
        order: row indices, best sorted by length.
        lengths: tokens of every row.
        budget: rows times longest row of a batch, at most.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        if batches and (len(batches[-1]) + 1) * longest <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return batches


def cut_batches(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut `order` into batches of at most `budget` tokens, padding left out; a longer row is a batch of its own."""
    batches: list[list[int]] = []
    tokens = 0
    for index in order:
        tokens += lengths[index]
        if batches and tokens <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
            tokens = lengths[index]
    return batches


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return batches of all rows, the longest rows first, so that a lack of memory shows at once."""
    return pack_batches(np.argsort(np.asarray(lengths), kind="stable")[::-1].tolist(), lengths, budget)


class TokenBatches:
    """The batches of a whole training, all its epochs in one sequence.

    A batch is a random draw of rows: one of rows of about one length teaches less (docs/decisions). Only a model that
    computes its padding is given such, as its batches would else be mostly padding.

    The sequence is a function of (lengths, budget, epochs, seed) alone: a resumed training skips the batches that it
    has done and sees the very ones that an uninterrupted one sees. Epochs may differ in their number of batches.

    Args:
        lengths: tokens of each training row.
        budget: tokens of a batch; a longer row is a batch of its own.
        epochs: passes over the rows; a fraction ends inside an epoch.
        seed: of the shuffle.
        padded: whether the model computes padding. It counts as tokens then, and rows are batched by length.
    """

    def __init__(self, lengths: Sequence[int], budget: int, epochs: float, seed: int, *, padded: bool = False) -> None:
        self._lengths = [int(length) for length in lengths]
        self.budget = budget
        self._seed = seed
        self._padded = padded
        whole = int(epochs)
        self.per_epoch = [len(self.epoch_batches(number)) for number in range(whole)]
        if epochs > whole:
            self.per_epoch.append(max(1, round((epochs - whole) * len(self.epoch_batches(whole)))))
        self._end = sum(self.per_epoch)

    def epoch_batches(self, number: int) -> list[list[int]]:
        """All batches of one epoch."""
        random = np.random.default_rng([self._seed, number])
        order = random.permutation(len(self._lengths))
        if not self._padded:
            return cut_batches(order.tolist(), self._lengths, self.budget)
        tokens = np.asarray(self._lengths)[order]
        window = np.cumsum(tokens) // (self.budget * WINDOW)
        order = order[np.lexsort((tokens, window))]
        batches = pack_batches(order.tolist(), self._lengths, self.budget)
        return [batches[index] for index in random.permutation(len(batches))]

    def stop_after(self, count: int) -> None:
        """Leave out all batches after the first `count`: the training ended there."""
        self._end = count

    def __iter__(self) -> Iterator[list[int]]:
        batches = (batch for number, count in enumerate(self.per_epoch) for batch in self.epoch_batches(number)[:count])
        return islice(batches, self._end)

    def __len__(self) -> int:
        return min(self._end, sum(self.per_epoch))
