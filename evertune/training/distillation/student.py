"""A student: the base model with fewer of its layers, evenly spaced (Sun et al. 2019; Sanh et al. 2019)."""

import logging
from typing import TYPE_CHECKING

import torch

from evertune.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)
KINDS = ("layer_types", "mlp_layer_types", "no_rope_layers")  # lists in a configuration with a value for each layer


def choose_layers(layers: int, kept_layers: int) -> list[int]:
    """Return the base's layers that a student keeps: evenly spaced, with the last one (Sun et al. 2019, section 3).

    Raises:
        ConfigError: there are fewer layers.
    """
    if kept_layers > layers:
        raise ConfigError(
            f"training.student.layers: {kept_layers}, but the base model has {layers}; set at most {layers}"
        )
    return [(index + 1) * layers // kept_layers - 1 for index in range(kept_layers)]


def find_stack(model: "PreTrainedModel", key: str) -> tuple[str, torch.nn.ModuleList]:
    """Return name and layers of the longest stack in a model's backbone.

    Args:
        model: to search.
        key: of the recipe, for the error.
    Raises:
        ConfigError: the backbone has no single stack of layers.
    """
    stacks = {name: part for name, part in model.base_model.named_modules() if isinstance(part, torch.nn.ModuleList)}
    if not stacks or model.config.is_encoder_decoder or not hasattr(model.config, "num_hidden_layers"):
        raise ConfigError(f"{key}: the base model has no single stack of layers; remove the setting")
    return max(stacks.items(), key=lambda item: len(item[1]))


def shrink_model(model: "PreTrainedModel", kept_layers: int) -> None:
    """Remove all but `kept_layers` layers of the model, in place.

    Raises:
        ConfigError: it has fewer layers, or no single stack of layers.
    """
    backbone = model.base_model
    name, layers = find_stack(model, "training.student")
    indices = choose_layers(len(layers), kept_layers)
    backbone.set_submodule(name, torch.nn.ModuleList([layers[index] for index in indices]))
    _renumber_layers(backbone.get_submodule(name))
    for config in {id(item): item for item in (model.config, backbone.config)}.values():
        _update_config(config, indices)
    logger.info("the student has the base's layers %s", ", ".join(str(index + 1) for index in indices))


def _renumber_layers(layers: torch.nn.ModuleList) -> None:
    """Number the layers of a decoder anew: the number is a layer's index in the cache of states."""
    for index, layer in enumerate(layers):
        for part in layer.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = index  # type: ignore[assignment]  # torch knows no numbers as attributes


def _update_config(config: "PreTrainedConfig", indices: list[int]) -> None:
    """Update a configuration to the kept layers, so that the model can be loaded with it."""
    for name in KINDS:
        layer_values = getattr(config, name, None)
        if layer_values is not None and len(layer_values) == config.num_hidden_layers:
            setattr(config, name, [layer_values[index] for index in indices])
    config.num_hidden_layers = len(indices)
