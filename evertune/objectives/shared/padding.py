"""Rows of different lengths as one tensor; a copy travels in the bundles of objectives that read texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .types import Batch, Ids, TokenExample

if TYPE_CHECKING:
    import torch


def pad_rows(rows: Sequence[Ids], fill: int, *, left: bool = False) -> "torch.Tensor":
    """Pad rows of ids to the longest, (rows, longest), behind each row or with `left` before it."""
    import torch

    longest = max(len(row) for row in rows)
    padded = np.full((len(rows), longest), fill, dtype=np.int64)
    for index, row in enumerate(rows):
        start = longest - len(row) if left else 0
        padded[index, start : start + len(row)] = row
    return torch.from_numpy(padded)


def make_mask(rows: Sequence[Ids], *, left: bool = False) -> "torch.Tensor":
    """Return 1 where `pad_rows` has an id and 0 where it has padding, (rows, longest)."""
    import torch

    lengths = np.array([len(row) for row in rows])[:, None]
    positions = np.arange(lengths.max())
    if left:
        positions = positions[::-1]
    return torch.from_numpy((positions < lengths).astype(np.int64))


def pad_inputs(examples: Sequence[TokenExample], pad_id: int) -> Batch:
    """Pad the token ids of examples: `input_ids` and `attention_mask`, (rows, longest)."""
    rows = [row["input_ids"] for row in examples]
    return {"input_ids": pad_rows(rows, pad_id), "attention_mask": make_mask(rows)}
