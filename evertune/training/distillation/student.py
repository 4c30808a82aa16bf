"""A student: the base model with fewer layers, taken evenly from its own (Sun et al. 2019; Sanh et al. 2019)."""

import logging
from typing import Any

import torch

from evertune.errors import ConfigError

logger = logging.getLogger(__name__)
KINDS = ("layer_types", "mlp_layer_types", "no_rope_layers")  # of a configuration: what each layer is, in their order


def chosen(layers: int, kept: int) -> list[int]:
    """Which of the base's layers a student takes: evenly spaced, the last one among them (Sun et al. 2019, section 3).

    Raises:
        ConfigError: there are fewer layers.
    """
    if kept > layers:
        raise ConfigError(f"training.student.layers: {kept}, but the base model has {layers}; give at most so many")
    return [(place + 1) * layers // kept - 1 for place in range(kept)]


def stack(model: Any, key: str) -> tuple[str, Any]:
    """Name and layers of the longest stack in a model's backbone.

    Raises:
        ConfigError: it has none; `key` of the recipe asked for it.
    """
    stacks = {name: part for name, part in model.base_model.named_modules() if isinstance(part, torch.nn.ModuleList)}
    if not stacks or model.config.is_encoder_decoder or not hasattr(model.config, "num_hidden_layers"):
        raise ConfigError(f"{key}: the base model has no one stack of layers; take it out")
    return max(stacks.items(), key=lambda one: len(one[1]))


def shrink(model: Any, kept: int) -> None:
    """Leave the model so many of its layers.

    Raises:
        ConfigError: there are fewer, or its layers are nowhere to be found.
    """
    backbone, (name, layers) = model.base_model, stack(model, "training.student")
    places = chosen(len(layers), kept)
    backbone.set_submodule(name, torch.nn.ModuleList([layers[place] for place in places]))
    _number(backbone.get_submodule(name))
    for config in {id(one): one for one in (model.config, backbone.config)}.values():
        _tell(config, places)
    logger.info("the student has the base's layers %s", ", ".join(str(place + 1) for place in places))


def _number(layers: Any) -> None:
    """Tell the layers of a decoder where they stand: by that number each finds its place in the cache of states."""
    for place, layer in enumerate(layers):
        for part in layer.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = place


def _tell(config: Any, places: list[int]) -> None:
    """Tell a configuration which of its layers there are: a model is read again by it."""
    for name in KINDS:
        known = getattr(config, name, None)
        if known is not None and len(known) == config.num_hidden_layers:
            setattr(config, name, [known[place] for place in places])
    config.num_hidden_layers = len(places)
