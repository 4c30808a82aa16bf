"""Train a model faster for a while: padding skipped, layers replaced by faster ones that give the same results."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from evertune.runtime import malloc
from evertune.training.kernels import dropout, linear
from evertune.training.kernels.unpadded import skip_padding
from evertune.training.kernels.vocabulary import compact_embedding

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)
LAYERS: dict[type, Callable[..., torch.Tensor]] = {
    torch.nn.Linear: linear.forward_linear,
    torch.nn.LayerNorm: linear.forward_norm,
}


@contextlib.contextmanager
def accelerate_training(
    model: "PreTrainedModel", precision: str, token_ids: torch.Tensor, compiled: bool = False
) -> Iterator[bool]:
    """Speed up training of the model for the duration of the block; yields whether it skips padding.

    Args:
        model: to train; unchanged after the block.
        precision: `bf16` or `fp32`.
        token_ids: sorted ids of all tokens that the model will see in training.
        compiled: whether its layers are compiled.
    """
    gpu = torch.cuda.is_available()
    model.to("cuda" if gpu else "cpu")  # `skip_padding` tries it on the device where the model trains
    with contextlib.ExitStack() as contexts:
        is_unpadded = contexts.enter_context(skip_padding(model))
        if gpu:
            contexts.enter_context(_enable_tensor_cores())
        else:
            contexts.enter_context(malloc.keep_memory())
            if model.main_input_name == "input_ids":
                logger.debug("embedding compact: %s", contexts.enter_context(compact_embedding(model, token_ids)))
        if compiled:
            contexts.enter_context(_compile_layers(model))
        elif not gpu:  # the compiler cannot trace these forward passes
            layer_forwards = LAYERS if precision == "bf16" else {}
            contexts.enter_context(
                _replace_forwards(model, {torch.nn.Dropout: dropout.forward_dropout, **layer_forwards})
            )
        logger.debug("padding skipped: %s", is_unpadded)
        yield is_unpadded


@contextlib.contextmanager
def _compile_layers(model: "PreTrainedModel") -> Iterator[None]:
    """Compile each of the model's layers for any number of tokens, except attention, which depends on the rows."""
    stacks = [part for part in model.base_model.modules() if isinstance(part, torch.nn.ModuleList)]
    layers = max(stacks, key=len, default=torch.nn.ModuleList())
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


@contextlib.contextmanager
def _enable_tensor_cores() -> Iterator[None]:
    """Compute fp32 products on the GPU's tensor cores (TF32), if it has them."""
    precision_before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision_before)


@contextlib.contextmanager
def _replace_forwards(model: torch.nn.Module, forwards: dict[type, Callable[..., torch.Tensor]]) -> Iterator[None]:
    """Replace the forward passes of the layers of exactly these types for the duration of the block."""
    changed_layers = [part for part in model.modules() if type(part) in forwards]
    for layer in changed_layers:
        layer.forward = functools.partial(forwards[type(layer)], layer)
    try:
        yield
    finally:
        for layer in changed_layers:
            del layer.forward
