"""The head of a model that starts from a champion whose labels were others: what it knows of a label stays with it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from evertune.training.parameters import is_backbone

logger = logging.getLogger(__name__)


def carry_over(model: Any, champion: Any, labels: Sequence[str], renamed: Mapping[str, str]) -> None:
    """Give each label's output the champion's weights for that label, wherever it stood there; new labels start anew.

    Args:
        model: of the champion's weights, with one output for each of `labels`.
        champion: the champion's model.
        renamed: old label -> the one that it is called now; several for one were merged, and give their mean.
    """
    champion_labels = [champion.config.id2label[index] for index in range(champion.config.num_labels)]
    if champion_labels == list(labels):
        return
    origins: dict[str, list[int]] = {label: [] for label in labels}
    for index, label in enumerate(champion_labels):
        origins.setdefault(renamed.get(label, label), []).append(index)
    weights = dict(champion.named_parameters())
    for name, parameter in model.named_parameters():
        if not is_backbone(model, name) and _has_rows(parameter, weights.get(name), len(labels), len(champion_labels)):
            _fill_rows(parameter, weights[name], [origins[label] for label in labels], model.config)
    new = [label for label in labels if not origins[label]]
    removed = [label for label in origins if label not in labels]
    logger.info("the head keeps %d labels, %d are new, %d are gone", len(labels) - len(new), len(new), len(removed))


def _has_rows(parameter: Any, champion_weights: Any, label_count: int, champion_label_count: int) -> bool:
    """Whether it has a row for each label, as it had in the champion."""
    if champion_weights is None or parameter.shape[1:] != champion_weights.shape[1:]:
        return False
    return (len(parameter), len(champion_weights)) == (label_count, champion_label_count)


def _fill_rows(parameter: Any, champion_weights: Any, origins: Sequence[Sequence[int]], config: Any) -> None:
    import torch

    with torch.no_grad():
        for row, champion_rows in enumerate(origins):
            if champion_rows:
                parameter[row] = champion_weights[list(champion_rows)].mean(0)
            elif parameter.ndim > 1:
                parameter[row].normal_(0.0, getattr(config, "initializer_range", 0.02))
            else:
                parameter[row] = 0.0
