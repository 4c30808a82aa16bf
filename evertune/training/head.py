"""Carry a champion's head over to a model with other labels: each label keeps its weights."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evertune.training.parameters import is_backbone

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)


def carry_over(
    model: "PreTrainedModel", champion: "PreTrainedModel", labels: Sequence[str], renamed: Mapping[str, str]
) -> None:
    """Copy the champion's weights of each label to that label's output; new labels get random weights.

    Args:
        model: has the champion's other weights, and one output for each of `labels`.
        champion: the champion's model.
        labels: of the model, in order.
        renamed: old label -> new label; labels that were merged into one give the mean of their weights.
    """
    champion_labels = [champion.config.id2label[index] for index in range(champion.config.num_labels)]
    if champion_labels == list(labels):
        return
    origins: dict[str, list[int]] = {label: [] for label in labels}
    for index, label in enumerate(champion_labels):
        origins.setdefault(renamed.get(label, label), []).append(index)
    weights = dict(champion.named_parameters())
    for name, parameter in model.named_parameters():
        if is_backbone(model, name):
            continue
        if _has_label_rows(parameter, weights.get(name), len(labels), len(champion_labels)):
            _fill_rows(parameter, weights[name], [origins[label] for label in labels], model.config)
    new = [label for label in labels if not origins[label]]
    removed = [label for label in origins if label not in labels]
    logger.info("the head keeps %d labels; %d are new, %d were removed", len(labels) - len(new), len(new), len(removed))


def _has_label_rows(
    parameter: "torch.Tensor", champion_weights: "torch.Tensor | None", label_count: int, champion_label_count: int
) -> bool:
    """Whether the parameter has a row for each label, here and in the champion."""
    if champion_weights is None or parameter.shape[1:] != champion_weights.shape[1:]:
        return False
    return (len(parameter), len(champion_weights)) == (label_count, champion_label_count)


def _fill_rows(
    parameter: "torch.Tensor",
    champion_weights: "torch.Tensor",
    origins: Sequence[Sequence[int]],
    config: "PreTrainedConfig",
) -> None:
    import torch

    with torch.no_grad():
        for row, champion_rows in enumerate(origins):
            if champion_rows:
                parameter[row] = champion_weights[list(champion_rows)].mean(0)
            elif parameter.ndim > 1:
                parameter[row].normal_(0.0, getattr(config, "initializer_range", 0.02))
            else:
                parameter[row] = 0.0
