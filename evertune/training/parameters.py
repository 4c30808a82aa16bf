"""The parameters of a model: which are trained, and at which learning rates."""

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evertune.errors import ConfigError, TrainingError
from evertune.objectives import Objective

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from evertune.objectives import Options


def build_model(
    objective: Objective, model_path: str, labels: Sequence[str], options: "Options", seed: int
) -> "PreTrainedModel":
    """Build a model with the base's weights and a new head that is drawn from `seed`.

    Raises:
        TrainingError: the weights cannot be loaded.
    """
    from transformers import set_seed

    set_seed(seed)
    try:
        return objective.build_model(model_path, labels, options)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"base_model: {model_path}: no model can be built from it: {str(error).splitlines()[0]}"
        ) from error


def freeze_parameters(
    model: "PreTrainedModel", patterns: Sequence[str], top_layers: int | None, others_learn: bool = True
) -> int:
    """Freeze parameters by name pattern, and the backbone below its top layers; return how many stay trainable.

    Args:
        model: to train.
        patterns: of names of parameters to freeze.
        top_layers: number of layers of the backbone that are trained; None for all.
        others_learn: whether all other parameters are trained; otherwise only those that were trainable before.
    Raises:
        ConfigError: a pattern matches no parameter, the model has fewer layers, or no parameter stays trainable.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(
                f"training.freeze: {pattern!r} matches no parameter; names look like {names[0]}, {names[-1]}"
            )
    frozen = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    if top_layers is not None:
        frozen |= _names_below_top(model, names, top_layers)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in frozen and (others_learn or parameter.requires_grad)
    count: int = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if not count:
        raise ConfigError("training.freeze: no parameter is left to train; leave at least the head")
    return count


def _names_below_top(model: "PreTrainedModel", names: Sequence[str], top: int) -> set[str]:
    name, layers = _find_stack(model)
    if top > len(layers):
        raise ConfigError(f"training.train_top_layers: {top}, but the model has {len(layers)} layers; lower it")
    top_prefixes = tuple(f"{name}.{index}." for index in range(len(layers) - top, len(layers)))
    return {
        parameter_name
        for parameter_name in names
        if is_backbone(model, parameter_name) and not parameter_name.startswith(top_prefixes)
    }


def is_backbone(model: "PreTrainedModel", name: str) -> bool:
    """Whether a parameter belongs to the pretrained part, not to a head; all of T5's do, which has no head."""
    return model.base_model is model or name.startswith(model.base_model_prefix + ".")


def build_optimizer(
    model: "PreTrainedModel", rate: float, head_rate: float | None, decay: float, layer_decay: float = 1.0
) -> "torch.optim.AdamW":
    """Build a fused AdamW (Loshchilov & Hutter 2019), without weight decay on biases, norms and IA3's factors.

    Args:
        model: to train.
        rate: peak learning rate of the backbone.
        head_rate: peak learning rate of the head; None for `rate`.
        decay: weight decay.
        layer_decay: see `assign_rates`.
    Raises:
        ConfigError: as `assign_rates`.
    """
    import torch

    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter, peak in assign_rates(model, rate, head_rate, layer_decay):
        is_undecayed = parameter.ndim < 2 or ".ia3_" in name
        groups.setdefault((peak, 0.0 if is_undecayed else decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": group, "lr": peak, "weight_decay": weight} for (peak, weight), group in groups.items()],
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=True,
    )


def assign_rates(
    model: "PreTrainedModel", rate: float, head_rate: float | None, layer_decay: float = 1.0
) -> "list[tuple[str, torch.nn.Parameter, float]]":
    """Return (name, parameter, peak learning rate) of every trainable parameter.

    Args:
        model: to train.
        rate: of the backbone's top layer.
        head_rate: of the head; None for `rate`.
        layer_decay: factor from each layer's rate to that of the layer below (Howard & Ruder 2018, section 3.2; in this
            form Clark et al. 2020, appendix B).
    Raises:
        ConfigError: `layer_decay` is set, and the model has no single stack of layers.
    """
    layers_above = _count_layers_above(model) if layer_decay < 1 else {}
    rates = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        peak = rate * layer_decay ** layers_above.get(name, 0) if is_backbone(model, name) else head_rate or rate
        rates.append((name, parameter, peak))
    return rates


def _count_layers_above(model: "PreTrainedModel") -> dict[str, int]:
    """Return the number of layers above each parameter of a layer or of the embeddings, by name."""
    name, layers = _find_stack(model)
    embeddings = {id(parameter) for parameter in _embedding_parameters(model)}
    is_before_layers = True
    layers_above: dict[str, int] = {}
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.startswith(f"{name}."):
            is_before_layers = False
            layer = int(parameter_name.removeprefix(f"{name}.").partition(".")[0])
            layers_above[parameter_name] = len(layers) - 1 - layer
        elif id(parameter) in embeddings or (is_before_layers and is_backbone(model, parameter_name)):
            # Positions and norms of the embeddings come before the layers.
            layers_above[parameter_name] = len(layers)
    return layers_above


def _embedding_parameters(model: "PreTrainedModel") -> "list[torch.nn.Parameter]":
    """Return the parameters of the embeddings; a convolutional network has none."""
    try:
        return list(model.get_input_embeddings().parameters())
    except NotImplementedError:
        return []


def _find_stack(model: "PreTrainedModel") -> "tuple[str, torch.nn.ModuleList]":
    """Return name and layers of the model's longest stack.

    Raises:
        ConfigError: the backbone has no single stack of layers; T5 has two.
    """
    import torch

    stacks = {name: part for name, part in model.named_modules() if isinstance(part, torch.nn.ModuleList)}
    has_two_stacks = model.config.is_encoder_decoder or model.base_model is model
    if has_two_stacks or not any(is_backbone(model, name) for name in stacks):
        raise ConfigError(
            "training: the base model has no single stack of layers; remove train_top_layers and layer_decay"
        )
    return max(stacks.items(), key=lambda item: len(item[1]))
