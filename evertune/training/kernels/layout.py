"""Rows of about one length side by side: how the tokens of a flat batch are laid out while they attend."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch

WIDTH, ROWS = 4, 8  # a bucket's width and its number of rows are multiples: shapes that recur have their kernels ready
VAIN, SHARE = 4096, 0.1  # scores of padding that a bucket may hold: so many, or this share of all of its scores


class Bucket(NamedTuple):
    """Rows that are filled up to one width.

    Args:
        start: of its first token, in a run where all rows are filled up.
        rows, width: their number, and tokens of each.
        full: whether no row is filled up.
    """

    start: int
    rows: int
    width: int
    full: bool


def buckets(lengths: Sequence[int]) -> Iterator[Bucket]:
    """The buckets of rows with these lengths, of which the longest comes first."""
    start = first = 0
    while first < len(lengths):
        width = -(-lengths[first] // WIDTH) * WIDTH
        last, vain = first, 0
        while last < len(lengths):
            more = sum(width**2 - length**2 for length in lengths[last : last + ROWS])
            if last > first and vain + more > max(VAIN, SHARE * width**2 * (last - first)):
                break
            last, vain = min(last + ROWS, len(lengths)), vain + more
        yield Bucket(start, last - first, width, vain == 0)
        start, first = start + (last - first) * width, last


@dataclass(frozen=True)
class Moves:
    """Where each head's vectors of a flat batch stand in the buckets, by row, head and position, and the way back.

    Args:
        there: for each place in the buckets the vector that comes to it; any one where nothing belongs.
        back: for each vector of the flat batch its place in the buckets.
        empty: places in the buckets where nothing belongs.
        tail: vectors at the flat batch's end that belong to no row.
    """

    there: Any
    back: Any
    empty: Any
    tail: int


class Layout:
    """The buckets of a flat batch.

    Args:
        lengths: of its rows, the longest first.
        total: its tokens; those behind the rows belong to none.
        varlen: whether attention takes the cumulative lengths (`varlen.py`), not the buckets.
    """

    def __init__(self, lengths: Sequence[int], total: int, device: Any, varlen: bool = False) -> None:
        self.lengths, self.varlen = lengths, varlen
        self.offsets = torch.tensor([0, *itertools.accumulate(lengths)], device=device)
        self.buckets = [] if varlen else list(buckets(lengths))
        self._total, self._device, sizes = total, device, torch.tensor(lengths)
        starts, first = sizes.cumsum(0) - sizes, 0
        self._tokens, self._real = [], []  # by bucket, (rows, width): the flat batch's token, and whether it is one
        for bucket in self.buckets:
            mine, inside = slice(first, first + bucket.rows), torch.arange(bucket.width)
            real = inside < sizes[mine, None]
            self._tokens.append(starts[mine, None] + inside * real)
            self._real.append(real)
            first += bucket.rows
        self.moves, self.hidden = cache(self._moves), cache(self._hidden)

    def real(self, place: int) -> Any:
        """(rows, 1, 1, width): which tokens of a bucket are some row's."""
        return self._real[place][:, None, None].to(self._device)

    def _hidden(self, place: int, heads: int, dtype: Any) -> Any:
        """(rows * heads, 1, width): what is added to a bucket's scores, so that nothing attends to what is no token."""
        real = self._real[place]
        added = torch.zeros(real.shape, dtype=dtype).masked_fill_(~real, float("-inf"))
        return added.repeat_interleave(heads, 0)[:, None].to(self._device)

    def _moves(self, heads: int) -> Moves:
        number = torch.arange(heads)[:, None]
        there = torch.cat([(tokens[:, None] * heads + number).flatten() for tokens in self._tokens])
        real = torch.cat([one[:, None].expand(-1, heads, -1).flatten() for one in self._real])
        places = real.nonzero()[:, 0]
        back = torch.zeros(self._total * heads, dtype=torch.int64)
        back[there[places]] = places
        empty, tail = (~real).nonzero()[:, 0], self._total * heads - len(places)
        return Moves(there.to(self._device), back.to(self._device), empty.to(self._device), tail)


class ToBuckets(torch.autograd.Function):
    """(tokens, heads, size) of a flat batch to vectors in the order of the buckets."""

    @staticmethod
    def forward(ctx: Any, states: Any, moves: Moves) -> Any:
        ctx.moves, ctx.shape = moves, states.shape
        return states.reshape(-1, states.shape[-1]).index_select(0, moves.there)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return _back(gradient, ctx.moves).view(ctx.shape), None


class FromBuckets(torch.autograd.Function):
    """The reverse."""

    @staticmethod
    def forward(ctx: Any, vectors: Any, moves: Moves, heads: int) -> Any:
        ctx.moves = moves
        return _back(vectors, moves).view(-1, heads, vectors.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        found = gradient.reshape(-1, gradient.shape[-1]).index_select(0, ctx.moves.there)
        return found.index_fill_(0, ctx.moves.empty, 0), None, None


def _back(vectors: Any, moves: Moves) -> Any:
    found = vectors.index_select(0, moves.back)
    if moves.tail:
        found[-moves.tail :] = 0
    return found
