"""Rows of about one length side by side: how the tokens of a flat batch are laid out while they attend."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch

WIDTH = 4  # a bucket's width and its number of rows are multiples: shapes that recur have their kernels ready
ROWS = 8
VAIN = 4096  # scores of padding that a bucket may hold: so many, or this share of all of its scores
SHARE = 0.1


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


def cut_buckets(lengths: Sequence[int]) -> Iterator[Bucket]:
    """The buckets of rows with these lengths, of which the longest comes first."""
    start = first = 0
    while first < len(lengths):
        width = -(-lengths[first] // WIDTH) * WIDTH
        last = first
        wasted_scores = 0
        while last < len(lengths):
            further_waste = sum(width**2 - length**2 for length in lengths[last : last + ROWS])
            if last > first and wasted_scores + further_waste > max(VAIN, SHARE * width**2 * (last - first)):
                break
            last = min(last + ROWS, len(lengths))
            wasted_scores = wasted_scores + further_waste
        yield Bucket(start, last - first, width, wasted_scores == 0)
        start = start + (last - first) * width
        first = last


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
        self.lengths = lengths
        self.varlen = varlen
        self.offsets = torch.tensor([0, *itertools.accumulate(lengths)], device=device)
        self.buckets = [] if varlen else list(cut_buckets(lengths))
        self._total = total
        self._device = device
        sizes = torch.tensor(lengths)
        starts = sizes.cumsum(0) - sizes
        first = 0
        self._tokens = []  # by bucket, (rows, width): the flat batch's token, and whether it is one
        self._real = []
        for bucket in self.buckets:
            own_rows = slice(first, first + bucket.rows)
            positions = torch.arange(bucket.width)
            real = positions < sizes[own_rows, None]
            self._tokens.append(starts[own_rows, None] + positions * real)
            self._real.append(real)
            first += bucket.rows
        self.moves, self.hidden = cache(self._build_moves), cache(self._build_bias)

    def real_tokens(self, index: int) -> Any:
        """(rows, 1, 1, width): which tokens of a bucket are some row's."""
        return self._real[index][:, None, None].to(self._device)

    def _build_bias(self, index: int, heads: int, dtype: Any) -> Any:
        """(rows * heads, 1, width): what is added to a bucket's scores, so that nothing attends to what is no token."""
        real = self._real[index]
        bias = torch.zeros(real.shape, dtype=dtype).masked_fill_(~real, float("-inf"))
        return bias.repeat_interleave(heads, 0)[:, None].to(self._device)

    def _build_moves(self, heads: int) -> Moves:
        head = torch.arange(heads)[:, None]
        sources = torch.cat([(tokens[:, None] * heads + head).flatten() for tokens in self._tokens])
        real = torch.cat([is_real[:, None].expand(-1, heads, -1).flatten() for is_real in self._real])
        targets = real.nonzero()[:, 0]
        back = torch.zeros(self._total * heads, dtype=torch.int64)
        back[sources[targets]] = targets
        empty = (~real).nonzero()[:, 0]
        tail = self._total * heads - len(targets)
        return Moves(sources.to(self._device), back.to(self._device), empty.to(self._device), tail)


class ToBuckets(torch.autograd.Function):
    """(tokens, heads, size) of a flat batch to vectors in the order of the buckets."""

    @staticmethod
    def forward(ctx: Any, states: Any, moves: Moves) -> Any:
        ctx.moves = moves
        ctx.shape = states.shape
        return states.reshape(-1, states.shape[-1]).index_select(0, moves.there)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return _move_back(gradient, ctx.moves).view(ctx.shape), None


class FromBuckets(torch.autograd.Function):
    """The reverse."""

    @staticmethod
    def forward(ctx: Any, vectors: Any, moves: Moves, heads: int) -> Any:
        ctx.moves = moves
        return _move_back(vectors, moves).view(-1, heads, vectors.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        moved = gradient.reshape(-1, gradient.shape[-1]).index_select(0, ctx.moves.there)
        return moved.index_fill_(0, ctx.moves.empty, 0), None, None


def _move_back(vectors: Any, moves: Moves) -> Any:
    moved = vectors.index_select(0, moves.back)
    if moves.tail:
        moved[-moves.tail :] = 0
    return moved
