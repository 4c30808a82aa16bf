"""Buckets of rows of similar length: how the tokens of a flat batch are laid out for attention."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch

WIDTH = 4  # a bucket's width is a multiple of this: kernels are cached for recurring shapes
ROWS = 8  # a bucket's number of rows is a multiple of this, for the same reason
VAIN = 4096  # scores of padding that a bucket may always hold ...
SHARE = 0.1  # ... or this share of all its scores, if that is more


class Bucket(NamedTuple):
    """Rows that are padded to one width.

    Args:
        start: index of its first token among the tokens of all padded buckets.
        rows: number of rows.
        width: tokens of each row, with padding.
        full: whether no row has padding.
    """

    start: int
    rows: int
    width: int
    full: bool


def cut_buckets(lengths: Sequence[int]) -> Iterator[Bucket]:
    """Yield the buckets of rows with these lengths, which are in descending order."""
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
    """Index maps between the vectors of a flat batch and the buckets (by row, head and position).

    Args:
        there: for each index in the buckets, the index of its vector in the flat batch; any index at padding.
        back: for each vector of the flat batch, its index in the buckets.
        empty: indices in the buckets that are padding.
        tail: number of vectors at the end of the flat batch that belong to no row.
    """

    there: torch.Tensor
    back: torch.Tensor
    empty: torch.Tensor
    tail: int


class Layout:
    """The buckets of a flat batch.

    Args:
        lengths: of its rows, in descending order.
        total: number of its tokens; tokens after the last row belong to no row.
        device: of the tensors.
        varlen: whether attention uses the cumulative lengths (`varlen.py`) instead of the buckets.
    """

    def __init__(self, lengths: Sequence[int], total: int, device: torch.device, varlen: bool = False) -> None:
        self.lengths = lengths
        self.varlen = varlen
        self.offsets = torch.tensor([0, *itertools.accumulate(lengths)], device=device)
        self.buckets = [] if varlen else list(cut_buckets(lengths))
        self._total = total
        self._device = device
        sizes = torch.tensor(lengths)
        starts = sizes.cumsum(0) - sizes
        first = 0
        self._tokens = []  # for each bucket (rows, width): the index of the token in the flat batch
        self._real = []  # for each bucket (rows, width): whether it is a token, not padding
        for bucket in self.buckets:
            own_rows = slice(first, first + bucket.rows)
            positions = torch.arange(bucket.width)
            real = positions < sizes[own_rows, None]
            self._tokens.append(starts[own_rows, None] + positions * real)
            self._real.append(real)
            first += bucket.rows
        self.moves = cache(self._build_moves)
        self.hidden = cache(self._build_bias)

    def real_tokens(self, index: int) -> torch.Tensor:
        """Return a mask (rows, 1, 1, width) of the tokens of a bucket that are not padding."""
        return self._real[index][:, None, None].to(self._device)

    def _build_bias(self, index: int, heads: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the bias (rows * heads, 1, width) that is added to a bucket's scores to hide padding."""
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
    """Moves the vectors (tokens, heads, size) of a flat batch into the order of the buckets."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, moves: Moves) -> torch.Tensor:
        ctx.moves = moves
        ctx.shape = states.shape
        return states.reshape(-1, states.shape[-1]).index_select(0, moves.there)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _move_back(gradient, ctx.moves).view(ctx.shape), None


class FromBuckets(torch.autograd.Function):
    """Moves vectors from the order of the buckets back into a flat batch."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, moves: Moves, heads: int) -> torch.Tensor:
        ctx.moves = moves
        return _move_back(vectors, moves).view(-1, heads, vectors.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        moved = gradient.reshape(-1, gradient.shape[-1]).index_select(0, ctx.moves.there)
        return moved.index_fill_(0, ctx.moves.empty, 0), None, None


def _move_back(vectors: torch.Tensor, moves: Moves) -> torch.Tensor:
    moved = vectors.index_select(0, moves.back)
    if moves.tail:
        moved[-moves.tail :] = 0
    return moved
