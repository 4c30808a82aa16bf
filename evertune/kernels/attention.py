"""Attention without padding: rows of one length lie side by side, and each attends to itself alone.

A batch is a flat run of tokens, sorted by the length of their rows. Rows of equal length form a group, which is a plain
tensor (rows, length, ...) without any mask. Batches are packed by length, so that groups are few and large.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from evertune.kernels import dropout

NAME = "evertune"  # among the attention functions of transformers
CACHED = 1 << 20  # scores that are worked on at once: with their mask they stay in the caches
SHORT, SHORTER = (
    128,
    32,
)  # rows below these have their softmax (its gradient) in fp32: torch's own in bfloat16 is slower


class Group(NamedTuple):
    """Rows of one length in a flat batch.

    Args:
        start: first token of the first row.
        rows, length: their number, and the tokens of each.
    """

    start: int
    rows: int
    length: int


def groups(lengths: Sequence[int]) -> list[Group]:
    """The groups of rows with these lengths, which are sorted."""
    found: list[Group] = []
    start = 0
    for length in lengths:
        if found and found[-1].length == length:
            found[-1] = found[-1]._replace(rows=found[-1].rows + 1)
        else:
            found.append(Group(start, 1, length))
        start += length
    return found


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any,
    *, groups: Sequence[Group], dropout: float = 0.0, scaling: float | None = None, **_: Any,
) -> tuple[Any, None]:  # fmt: skip
    """An attention function of transformers for flat batches.

    Args:
        query, key, value: (1, heads, tokens, size); key and value may have fewer heads.
        attention_mask: not looked at.
        groups: of the rows.
    Returns:
        (1, tokens, heads, size), and no weights.
    """
    causal = bool(getattr(module, "is_causal", False))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (one[0].transpose(0, 1) for one in (query, key, value))
    if query.device.type == "cpu" and dropout and not causal and k.shape[1] == q.shape[1]:
        result: Any = _Dropped.apply(q, k, v, groups, scale, dropout)  # type: ignore[no-untyped-call]
    else:
        result = _plain(q, k, v, groups, scale, dropout, causal)
    return result.unsqueeze(0), None


def _plain(query: Any, key: Any, value: Any, groups: Sequence[Group], scale: float, chance: float, causal: bool) -> Any:
    """Torch's own kernel, a group at a time; states are (tokens, heads, size)."""
    shared = key.shape[1] != query.shape[1]
    found = []
    for group in groups:
        q, k, v = (_cut(one, group).transpose(1, 2) for one in (query, key, value))
        attended = functional.scaled_dot_product_attention(
            q, k, v, dropout_p=chance, is_causal=causal, scale=scale, enable_gqa=shared
        )
        found.append(attended.transpose(1, 2).flatten(0, 1))
    return torch.cat(found)


def _cut(states: Any, group: Group) -> Any:
    """(rows, length, heads, size) of a group, a view."""
    part = states[group.start : group.start + group.rows * group.length]
    return part.view(group.rows, group.length, *states.shape[1:])


def _pieces(groups: Sequence[Group], heads: int) -> Iterator[Group]:
    """Groups cut so small that a piece's scores stay in the cache."""
    for start, rows, length in groups:
        step = max(1, CACHED // (heads * length * length))
        for first in range(0, rows, step):
            yield Group(start + first * length, min(step, rows - first), length)


class _Dropped(torch.autograd.Function):
    """Attention with dropout on its weights, for which torch has no fast kernel on CPUs."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, groups: Any, scale: float, chance: float) -> Any:
        result = torch.empty_like(query, memory_format=torch.contiguous_format)
        query = query * scale
        ctx.pieces, ctx.scale = list(_pieces(groups, query.shape[1])), scale
        kept: list[Any] = []
        with torch.autocast(query.device.type, enabled=False):  # which would make fp32 of the weights
            for piece in ctx.pieces:
                q, k, v = (_matrices(one, piece) for one in (query, key, value))
                weights = _softmax(torch.bmm(q, k.transpose(1, 2)))
                mask = dropout.mask(weights.shape, chance, weights.dtype)
                _put(result, piece, torch.bmm(weights * mask, v))
                kept += [q, k, v, weights, mask]
        ctx.save_for_backward(*kept)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        found = [torch.empty_like(gradient, memory_format=torch.contiguous_format) for _ in range(3)]
        kept = iter(ctx.saved_tensors)
        for piece, q, k, v, weights, mask in zip(ctx.pieces, kept, kept, kept, kept, kept, strict=True):
            above = _matrices(gradient, piece)
            inner = torch.bmm(above, v.transpose(1, 2)).mul_(mask)
            scores = _softmax_gradient(inner, weights)
            _put(found[0], piece, torch.bmm(scores, k).mul_(ctx.scale))
            # The small factor is transposed, not the (length, length) one: `bmm` copies what is transposed.
            _put(found[1], piece, torch.bmm(q.transpose(1, 2), scores).transpose(1, 2))
            _put(found[2], piece, torch.bmm(above.transpose(1, 2), weights * mask).transpose(1, 2))
        return *found, None, None, None


def _softmax(scores: Any) -> Any:
    kind = torch.float32 if scores.shape[-1] < SHORT else scores.dtype
    return scores.to(kind).softmax(-1).to(scores.dtype)


def _softmax_gradient(above: Any, weights: Any) -> Any:
    kind = torch.float32 if weights.shape[-1] < SHORTER else weights.dtype
    found = torch.ops.aten._softmax_backward_data(above.to(kind), weights.to(kind), -1, kind)
    return found.to(weights.dtype)


def _matrices(states: Any, piece: Group) -> Any:
    """(rows * heads, length, size) of a piece, contiguous: a view of a single row would be copied by each product."""
    return _cut(states, piece).transpose(1, 2).contiguous().view(-1, piece.length, states.shape[-1])


def _put(states: Any, piece: Group, matrices: Any) -> None:
    """The reverse of `_matrices`."""
    _cut(states, piece).copy_(matrices.view(piece.rows, -1, *matrices.shape[1:]).transpose(1, 2))
