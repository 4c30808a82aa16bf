"""Attention over rows that lie one behind the other, on a GPU.

Torch's jagged tensors give FlashAttention (Dao et al. 2022) the rows' cumulative lengths: nothing is filled up, and no
score is ever stored. On a CPU they compute the same, row by row and slowly.
"""

from typing import Any

import torch
from torch.nn import functional

from evertune.training.kernels.layout import Layout


def supports_device(device: Any) -> bool:
    """Whether it pays on this device, if a model can use it."""
    return bool(device.type == "cuda")


def attend_jagged(query: Any, key: Any, value: Any, layout: Layout, scale: float, chance: float, causal: bool) -> Any:
    """(tokens, heads, size), 0 for the tokens of no row.

    Args:
        query, key, value: (tokens, heads, size); key and value may have fewer heads.
    """
    if repeats := query.shape[1] // key.shape[1] - 1:
        key, value = (tensor.repeat_interleave(repeats + 1, 1) for tensor in (key, value))
    q, k, v = (_to_jagged(tensor, layout) for tensor in (query, key, value))
    output = functional.scaled_dot_product_attention(q, k, v, dropout_p=chance, is_causal=causal, scale=scale)
    flat = output.transpose(1, 2).values()
    return functional.pad(flat, (0, 0, 0, 0, 0, len(query) - len(flat)))


def _to_jagged(states: Any, layout: Layout) -> Any:
    """(rows, heads, length of each, size)."""
    lengths = layout.lengths
    jagged = torch.nested.nested_tensor_from_jagged(
        states[: sum(lengths)], layout.offsets, min_seqlen=min(lengths), max_seqlen=max(lengths)
    )
    return jagged.transpose(1, 2)
