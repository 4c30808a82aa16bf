"""Attaches, merges, saves and loads adapters of the library `peft`.

A copy of this file travels in the bundle of a model whose adapter is not merged: it imports nothing of Evertune.
"""

import contextlib
import fnmatch
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = "adapter_model.safetensors"
NAME = "default"  # of the one adapter that a model has, in the library
EMBEDDED = ("prompt", "p-tuning")  # methods that put virtual tokens before the row's own
VIRTUAL = ("prefix", *EMBEDDED)


def attach_adapter(model: Any, method: Mapping[str, Any], base: str) -> Any:
    """Add an adapter to the model in place; only its weights and the head remain trainable.

    Args:
        model: base weights with a new head.
        method: its `type` and options, as `evertune.config.methods` has them.
        base: name of the base model, stored with the saved adapter.
    Returns:
        the library's own model around it; None for virtual tokens.
    Raises:
        ValueError: the method does not fit the model.
    """
    if method["type"] in VIRTUAL:
        _prepend_tokens(model, method)
        return None
    from peft import get_peft_model

    config = _make_config(method, find_targets(model, method["targets"]), find_heads(model))
    with _ignore_warnings():
        peft_model = get_peft_model(model, config)
    config.base_model_name_or_path = base  # the library puts the folder there, of this machine
    return peft_model


@contextlib.contextmanager
def _ignore_warnings() -> Iterator[None]:
    """Hide the library's deprecation warnings about `transformers`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def find_heads(model: Any) -> list[str]:
    """Return the names of the new parts on top of the base, which are trained whole; a pretrained output is not new."""
    base = model.base_model
    output = model.get_output_embeddings()
    if base is model:  # T5's, with an output of its own: nothing stands on it
        return []
    parts = ((name, list(part.modules())) for name, part in model.named_children() if part is not base)
    return [
        name
        for name, modules in parts
        if output not in modules and any(list(module.parameters()) for module in modules)
    ]


def find_targets(model: Any, patterns: str | Sequence[str]) -> list[str]:
    """Return the names of the base's linear layers to adapt.

    Raises:
        ValueError: a pattern matches none.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    base = model.base_model
    linear_ids = {id(module) for module in base.modules() if isinstance(module, (torch.nn.Linear, Conv1D))}
    names = [name for name, module in model.named_modules() if id(module) in linear_ids]
    if isinstance(patterns, str):
        stacks = [part for part in base.modules() if isinstance(part, torch.nn.ModuleList)]
        longest = stacks if model.config.is_encoder_decoder else [max(stacks, key=len, default=base)]
        inside_ids = {id(module) for stack in longest for module in stack.modules()}
        return [name for name, module in model.named_modules() if id(module) in linear_ids & inside_ids]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(
                f"targets: {pattern!r} matches no linear layer of the base; names look like {', '.join(names[:3])}"
            )
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def _make_config(method: Mapping[str, Any], names: list[str], trained_whole: list[str]) -> Any:
    from peft import AdaLoraConfig, IA3Config, LoraConfig

    settings = {"target_modules": names, "modules_to_save": trained_whole}
    if method["type"] == "ia3":
        return IA3Config(feedforward_modules=[], **settings)
    settings |= {"lora_alpha": method["alpha"], "lora_dropout": method["dropout"]}
    if method["type"] == "adalora":
        # The steps are known only when the batches are; until then they are too many for any rank to be taken.
        return AdaLoraConfig(
            target_r=method["rank"],
            init_r=method["initial_rank"],
            orth_reg_weight=method["orthogonal"],
            total_step=1 << 40,
            **settings,
        )
    return LoraConfig(r=method["rank"], use_dora=method["type"] == "dora", **settings)


def _prepend_tokens(model: Any, method: Mapping[str, Any]) -> None:
    """Prepend virtual tokens to every row inside the base; the head does not see their states."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.partition(".")[0] in find_heads(model)
    base = model.base_model
    base.virtual_tokens = _make_token_network(base, method)
    base.register_forward_pre_hook(_prepend_prefix if method["type"] == "prefix" else _prepend_prompt, with_kwargs=True)
    base.register_forward_hook(_drop_virtual_states, with_kwargs=True)


def _make_token_network(base: Any, method: Mapping[str, Any]) -> Any:
    """What makes the virtual tokens."""
    import peft

    table = base.get_input_embeddings()
    config = base.config
    shape = {"num_virtual_tokens": method["virtual_tokens"], "token_dim": table.embedding_dim}
    shape |= {"num_transformer_submodules": 1, "num_layers": config.num_hidden_layers}
    if method["type"] == "prefix":
        heads, size = _find_key_shape(config)
        units = method["hidden_size"]
        shape |= {"token_dim": heads * size, "num_attention_heads": heads}
        return peft.PrefixEncoder(
            peft.PrefixTuningConfig(**shape, prefix_projection=units is not None, encoder_hidden_size=units)
        )
    if method["type"] == "prompt":
        return peft.PromptEmbedding(peft.PromptTuningConfig(**shape, prompt_tuning_init="SAMPLE_VOCAB"), table)
    return peft.PromptEncoder(
        peft.PromptEncoderConfig(
            **shape,
            encoder_reparameterization_type=method["network"].upper(),
            encoder_hidden_size=method["hidden_size"],
        )
    )


def _find_key_shape(config: Any) -> tuple[int, int]:
    """Heads of the keys and values, and their size."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return heads, getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _compute_virtual(base: Any) -> Any:
    """(tokens, size)"""
    import torch

    network = base.virtual_tokens
    positions = torch.arange(network.embedding.num_embeddings, device=network.embedding.weight.device)
    return network(positions[None])[0]


def _extend_mask(args: tuple[Any, ...], kwargs: Mapping[str, Any], count: int) -> dict[str, Any]:
    """What the base is called with, with a mask that shows it the virtual tokens too."""
    import torch

    ids = args[0] if args else kwargs["input_ids"]
    mask = torch.cat([kwargs["attention_mask"].new_ones(len(ids), count), kwargs["attention_mask"]], 1)
    return {**kwargs, "input_ids": ids, "attention_mask": mask}


def _prepend_prompt(
    base: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    virtual = _compute_virtual(base)
    kwargs = _extend_mask(args, kwargs, len(virtual))
    tokens = base.get_input_embeddings()(kwargs.pop("input_ids"))
    return (), {**kwargs, "inputs_embeds": torch.cat([virtual.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], 1)}


def _prepend_prefix(
    base: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    from transformers import DynamicCache

    virtual = _compute_virtual(base)
    (heads, size) = _find_key_shape(base.config)
    kwargs = _extend_mask(args, kwargs, len(virtual))
    rows = len(kwargs["input_ids"])
    layers = virtual.view(len(virtual), -1, 2, heads, size).permute(1, 2, 3, 0, 4)  # layer, key or value, head, token
    cache = DynamicCache([tuple(tensor.expand(rows, -1, -1, -1) for tensor in layer) for layer in layers])
    return (), {**kwargs, "past_key_values": cache}


def _drop_virtual_states(base: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
    """The states of the row's own tokens.

    Raises:
        ValueError: the model takes no prefix.
    """
    count = base.virtual_tokens.embedding.num_embeddings
    cache = kwargs.get("past_key_values")
    if cache is None:
        output.last_hidden_state = output.last_hidden_state[:, count:]
    elif cache.get_seq_length() == count:
        raise ValueError(f"prefix: models of the family {base.config.model_type} take none; choose lora or prompt")
    return output


def save_adapter(model: Any, peft: Any, folder: Path) -> None:
    """Write the adapter and the head alone, and the model's configuration.

    Raises:
        OSError: the disk is full or not writable.
    """
    from safetensors.torch import save_file

    if peft is None:
        folder.mkdir(parents=True)
        trainable = {
            name: parameter.detach().contiguous()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        save_file(trainable, folder / FILE, metadata={"format": "pt"})
    else:
        peft.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()  # a model card with nothing in it
    model.config.save_pretrained(folder)


def load(model: Any, method: Mapping[str, Any], folder: Path) -> None:
    """Attach a saved adapter to its base, for use.

    Args:
        model: its base with any head; it is changed in place.
    Raises:
        OSError, ValueError: the adapter is damaged, or does not fit the model.
    """
    if method["type"] not in VIRTUAL:
        from peft import PeftModel

        with _ignore_warnings():
            PeftModel.from_pretrained(model, folder)
        return
    from safetensors.torch import load_file

    _prepend_tokens(model, method)
    saved = load_file(folder / FILE)
    if saved.keys() != {name for name, parameter in model.named_parameters() if parameter.requires_grad}:
        raise ValueError(f"the adapter in {folder} is not of this model")
    model.load_state_dict(saved, strict=False)
