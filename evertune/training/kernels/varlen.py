"""Attention over concatenated rows on a GPU.

Torch's jagged tensors pass the rows' cumulative lengths to FlashAttention (Dao et al. 2022): there is no padding, and
no scores are stored. On a CPU they compute the same, row by row and slowly.
"""

import torch
from torch.nn import functional

from evertune.training.kernels.layout import Layout


def supports_device(device: torch.device) -> bool:
    """Whether it is faster on this device."""
    return bool(device.type == "cuda")


def attend_jagged(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    chance: float,
    causal: bool,
) -> torch.Tensor:
    """Return the attention output (tokens, heads, size), 0 for tokens that belong to no row.

    Args:
        query: (tokens, heads, size).
        key: likewise, possibly with fewer heads.
        value: as `key`.
        layout: of the batch.
        scale: of the scores.
        chance: probability of dropout.
        causal: whether a token attends only to earlier ones.
    """
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key = key.repeat_interleave(repeats, 1)
        value = value.repeat_interleave(repeats, 1)
    q, k, v = (_to_jagged(tensor, layout) for tensor in (query, key, value))
    output = functional.scaled_dot_product_attention(q, k, v, dropout_p=chance, is_causal=causal, scale=scale)
    flat = output.transpose(1, 2).values()
    return functional.pad(flat, (0, 0, 0, 0, 0, len(query) - len(flat)))


def _to_jagged(states: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return a jagged tensor (rows, heads, length of each row, size)."""
    lengths = layout.lengths
    jagged = torch.nested.nested_tensor_from_jagged(
        states[: sum(lengths)], layout.offsets, min_seqlen=min(lengths), max_seqlen=max(lengths)
    )
    return jagged.transpose(1, 2)
