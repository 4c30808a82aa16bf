"""Attention on flat batches: each row attends to itself alone; rows of similar length are computed together."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from evertune.training.kernels import dropout, varlen
from evertune.training.kernels.layout import Bucket, FromBuckets, Layout, ToBuckets

NAME = "evertune"  # among the attention functions of transformers
CACHED = 1 << 20  # scores that are computed at a time: with their mask they fit in the caches
SHORT = 128  # shorter rows have their softmax in fp32: torch's own in bfloat16 is slower
SHORTER = 32  # the same for the gradient of the softmax


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    layout: Layout,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers for flat batches.

    Args:
        module: the attention layer.
        query: (1, heads, tokens, size).
        key: likewise, possibly with fewer heads.
        value: as `key`.
        attention_mask: ignored.
        layout: of the batch.
        dropout: probability of dropout on the attention weights.
        scaling: of the scores; None for one over the root of the size.
    Returns:
        (1, tokens, heads, size), and None for the weights.
    """
    causal = bool(getattr(module, "is_causal", False))
    heads = query.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if layout.varlen:
        return varlen.attend_jagged(query, key, value, layout, scale, dropout, causal).unsqueeze(0), None
    q, k, v = (_to_buckets(tensor, layout) for tensor in (query, key, value))
    if query.device.type == "cpu" and dropout and not causal and key.shape[1] == heads:
        result: torch.Tensor = _Dropped.apply(q, k, v, layout, heads, scale, dropout)  # type: ignore[no-untyped-call]
    else:
        result = _attend_plain(q, k, v, layout, (heads, key.shape[1]), scale, dropout, causal)
    flat: torch.Tensor = FromBuckets.apply(result, layout.moves(heads), heads)  # type: ignore[no-untyped-call]
    return flat.unsqueeze(0), None


def _to_buckets(states: torch.Tensor, layout: Layout) -> torch.Tensor:
    moved: torch.Tensor = ToBuckets.apply(states, layout.moves(states.shape[1]))  # type: ignore[no-untyped-call]
    return moved


def _attend_plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    heads: tuple[int, int],
    scale: float,
    chance: float,
    causal: bool,
) -> torch.Tensor:
    """Compute attention with torch's own kernel, a bucket at a time.

    `heads` are the numbers of heads of the queries, and of keys and values.
    """
    outputs = []
    for index, bucket in enumerate(layout.buckets):
        q = _slice_bucket(query, bucket, heads[0], 0, bucket.rows).unflatten(0, (-1, heads[0]))  # type: ignore[no-untyped-call]
        k, v = (
            _slice_bucket(tensor, bucket, heads[1], 0, bucket.rows).unflatten(0, (-1, heads[1]))  # type: ignore[no-untyped-call]
            for tensor in (key, value)
        )
        # Padding is at the end of rows, where a causal mask hides it from all tokens.
        mask = None if bucket.full or causal else layout.real_tokens(index)
        attended = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=chance, is_causal=causal, scale=scale, enable_gqa=heads[0] != heads[1]
        )
        outputs.append(attended.flatten(0, 2))
    return torch.cat(outputs)


def _slice_bucket(vectors: torch.Tensor, bucket: Bucket, heads: int, first: int, rows: int) -> torch.Tensor:
    """Return a view (rows * heads, width, size) of some rows of a bucket."""
    start = (bucket.start + first * bucket.width) * heads
    part = vectors[start : start + rows * heads * bucket.width]
    return part.view(rows * heads, bucket.width, -1)


def _cut_pieces(layout: Layout, heads: int) -> Iterator[tuple[int, Bucket, int, int]]:
    """Cut buckets into pieces whose scores fit in the cache: yield index, bucket, first row, number of rows."""
    for index, bucket in enumerate(layout.buckets):
        max_rows = max(1, CACHED // (heads * bucket.width**2))
        step = 1 << (max_rows.bit_length() - 1)  # a power of two, so that shapes recur
        for first in range(0, bucket.rows, step):
            yield index, bucket, first, min(step, bucket.rows - first)


class _Dropped(torch.autograd.Function):
    """Attention with dropout on its weights, for which torch has no fast kernel on CPUs.

    Queries, keys, values and the result are in the order of the buckets.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: Layout,
        heads: int,
        scale: float,
        chance: float,
    ) -> torch.Tensor:
        result = torch.empty_like(value)
        query = query * scale
        ctx.layout = layout
        ctx.heads = heads
        ctx.scale = scale
        saved: list[torch.Tensor] = []
        with torch.autocast(query.device.type, enabled=False):  # autocast would convert the weights to fp32
            for index, bucket, first, rows in _cut_pieces(layout, heads):
                q, k, v, output = (
                    _slice_bucket(tensor, bucket, heads, first, rows) for tensor in (query, key, value, result)
                )
                scores = torch.bmm(q, k.transpose(1, 2))
                if not bucket.full:
                    hidden = layout.hidden(index, heads, scores.dtype)
                    scores.add_(hidden[first * heads : (first + rows) * heads])
                weights = _softmax(scores)
                mask = dropout.draw_mask(weights.shape, chance, weights.dtype)
                torch.bmm(weights * mask, v, out=output)
                saved += [weights, mask]
        ctx.save_for_backward(query, key, value, *saved)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *saved = ctx.saved_tensors
        gradients = [torch.empty_like(tensor) for tensor in (query, key, value)]
        saved_tensors = iter(saved)
        gradient = gradient.contiguous()
        for (_, bucket, first, rows), weights, mask in zip(
            _cut_pieces(ctx.layout, ctx.heads), saved_tensors, saved_tensors, strict=True
        ):
            tensors = (gradient, query, key, value, *gradients)
            output_gradient, q, k, v, dq, dk, dv = (
                _slice_bucket(tensor, bucket, ctx.heads, first, rows) for tensor in tensors
            )
            inner = torch.bmm(output_gradient, v.transpose(1, 2)).mul_(mask)
            scores = _softmax_gradient(inner, weights)
            torch.bmm(scores, k, out=dq)
            # The small factor is transposed, not the (width, width) one: `bmm` copies what is transposed.
            dk.copy_(torch.bmm(q.transpose(1, 2), scores).transpose(1, 2))
            dv.copy_(torch.bmm(output_gradient.transpose(1, 2), weights * mask).transpose(1, 2))
        return gradients[0].mul_(ctx.scale), *gradients[1:], None, None, None, None


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    kind = torch.float32 if scores.shape[-1] < SHORT else scores.dtype
    return scores.to(kind).softmax(-1).to(scores.dtype)


def _softmax_gradient(output_gradient: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    kind = torch.float32 if weights.shape[-1] < SHORTER else weights.dtype
    gradient: torch.Tensor = torch.ops.aten._softmax_backward_data(output_gradient.to(kind), weights.to(kind), -1, kind)
    return gradient.to(weights.dtype)
