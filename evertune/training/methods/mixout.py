"""Mixout: in training, each weight is the base's with some probability (Lee et al. 2020, Mixout, section 3)."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from evertune.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LINEAR = (torch.nn.Linear, Conv1D)  # GPT-2's layers are Conv1D: linear too, with the weight transposed


def find_linear_layers(model: "PreTrainedModel") -> list[torch.nn.Module]:
    """Return the linear layers of the backbone, whose weights are mixed.

    Raises:
        ConfigError: there are none, as in a convolutional network.
    """
    linear_layers: list[torch.nn.Module] = [layer for layer in model.base_model.modules() if type(layer) in LINEAR]
    if not linear_layers:
        raise ConfigError("training.mixout: the base model has no linear layers, whose weights it mixes; set it to 0")
    return linear_layers


@contextlib.contextmanager
def mix_weights(model: "PreTrainedModel", chance: float) -> Iterator[None]:
    """Mix the weights of the backbone's linear layers with their current ones for the duration of the block.

    Draws come from torch's own generator: a resumed training draws the same.

    Raises:
        ConfigError: there are no such layers.
    """
    mixed_layers = find_linear_layers(model) if chance else []
    forwards_before = [(layer, layer.__dict__.get("forward")) for layer in mixed_layers]
    for layer in mixed_layers:
        base = cast(torch.Tensor, layer.weight).detach().clone()
        layer.forward = functools.partial(_forward_mixed, layer, layer.forward, base, chance)
    try:
        yield
    finally:
        for layer, forward in forwards_before:
            del layer.forward
            if forward is not None:
                layer.forward = forward


def _forward_mixed(
    layer: torch.nn.Linear | Conv1D,
    plain_forward: Callable[[torch.Tensor], torch.Tensor],
    base: torch.Tensor,
    chance: float,
    states: torch.Tensor,
) -> torch.Tensor:
    if not layer.training:
        return plain_forward(states)
    # Dropout of the change since the base; its scale preserves the expected weight (equation 6).
    weight = base + functional.dropout(layer.weight - base, chance)
    return functional.linear(states, weight.T if isinstance(layer, Conv1D) else weight, layer.bias)
