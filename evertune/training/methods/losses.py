"""The loss of a training: the objective's own, or one that the recipe names."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch

from evertune.config.losses import ClassBalanced, Focal
from evertune.objectives import Objective
from evertune.training.distributed.process_group import IGNORED
from evertune.training.methods import r_drop

if TYPE_CHECKING:
    from evertune.config import Training

Logits = torch.Tensor | tuple[torch.Tensor, ...]  # some objectives' models return several tensors


def class_weights(values: Sequence[str], labels: Sequence[str], settings: "Training") -> torch.Tensor | None:
    """Return the weight of each label by its train rows; None for equal weights."""
    if isinstance(settings.loss, ClassBalanced):
        return effective_weights(values, labels, settings.loss.beta)
    return balanced_weights(values, labels) if settings.class_weights == "balanced" else None


def balanced_weights(values: Sequence[str], labels: Sequence[str]) -> torch.Tensor:
    """Return class weights inverse to frequency, `n / (k * n_c)`, 1.0 for a class without rows (King & Zeng 2001)."""
    counts = Counter(values)
    total = sum(counts[label] for label in labels)
    return torch.tensor([total / (len(labels) * counts[label]) if counts[label] else 1.0 for label in labels])


def effective_weights(values: Sequence[str], labels: Sequence[str], beta: float) -> torch.Tensor:
    """Return class weights inverse to the effective number of rows, `(1 - beta^n) / (1 - beta)`, with mean 1.

    Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples, section 4. A class without rows
    counts as having one.
    """
    counts = Counter(values)
    weights = torch.tensor([(1 - beta) / (1 - beta ** max(1, counts[label])) for label in labels])
    return weights * len(labels) / weights.sum()


def build_loss(
    objective: Objective, weights: torch.Tensor | None, settings: "Training"
) -> Callable[[Logits, torch.Tensor], torch.Tensor]:
    """Return the function from logits and labels to the loss, summed over rows or words."""

    def plain_loss(logits: Logits, labels: torch.Tensor) -> torch.Tensor:
        label_weights = None if weights is None else weights.to(labels.device)
        if isinstance(settings.loss, Focal):
            return focal_loss(cast(torch.Tensor, logits), labels, label_weights, settings.loss.gamma)
        loss: torch.Tensor = objective.compute_loss(logits, labels, label_weights, settings.label_smoothing)
        return loss

    def r_drop_loss(logits: Logits, labels: torch.Tensor) -> torch.Tensor:
        assert settings.r_drop is not None
        divergence = r_drop.symmetric_divergence(cast(torch.Tensor, logits), labels)
        return plain_loss(logits, labels) / 2 + settings.r_drop * divergence

    return plain_loss if settings.r_drop is None else r_drop_loss


def focal_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, gamma: float) -> torch.Tensor:
    """Return cross-entropy times `(1 - p)^gamma`, p the label's probability (Lin et al. 2017, Focal Loss, eq. 5)."""
    logits = logits.flatten(0, -2).float()
    labels = labels.flatten()
    plain = torch.nn.functional.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
    weighted = plain if weights is None else plain * weights[labels.clamp(min=0)]
    return ((1 - (-plain).exp()).clamp(min=0) ** gamma * weighted).sum()
