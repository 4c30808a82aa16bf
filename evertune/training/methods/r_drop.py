"""R-Drop: two passes with different dropout masks should agree (Liang et al. 2021, R-Drop, section 2)."""

from collections.abc import Mapping

import torch

from evertune.training.distributed.process_group import IGNORED


def double_batch(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the batch with each row twice: all rows, and then all of them again."""
    return {name: torch.cat([value, value]) for name, value in batch.items()}


def symmetric_divergence(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of both Kullback-Leibler divergences between the halves of a doubled batch.

    It is summed over rows or words.

    Args:
        logits: (2 * rows, ..., labels).
        labels: (2 * rows, ...).
    """
    is_counted = labels.chunk(2)[0].flatten() != IGNORED
    first, second = [half.flatten(0, -2)[is_counted].float().log_softmax(-1) for half in logits.chunk(2)]
    return ((first.exp() - second.exp()) * (first - second)).sum() / 2
