"""Mixout: while a model learns, each weight is the base's with some chance (Lee et al. 2020, Mixout, section 3)."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional


@contextlib.contextmanager
def mixed(model: Any, chance: float) -> Iterator[None]:
    """Mix the weights of the backbone's linear layers with those that they have now, while this lasts.

    The draws come from torch's own generator: a resumed training draws the same.
    """
    layers: list[Any] = [one for one in model.base_model.modules() if type(one) is torch.nn.Linear] if chance else []
    before = [(layer, layer.__dict__.get("forward")) for layer in layers]
    for layer in layers:
        base = layer.weight.detach().clone()
        layer.forward = functools.partial(_forward, layer, layer.forward, base, chance)
    try:
        yield
    finally:
        for layer, forward in before:
            del layer.forward
            if forward is not None:
                layer.forward = forward


def _forward(layer: torch.nn.Linear, own: Any, base: Any, chance: float, states: Any) -> Any:
    if not layer.training:
        return own(states)
    # Dropout of what was learned: its scale keeps the expected weight what it is (equation 6).
    weight = base + functional.dropout(layer.weight - base, chance)
    return functional.linear(states, weight, layer.bias)
