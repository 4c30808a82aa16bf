"""What makes a training step fast and changes nothing of what is learned."""

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Any

import torch

from evertune.runtime import malloc as memory
from evertune.training.kernels import dropout, linear
from evertune.training.kernels.unpadded import unpadded
from evertune.training.kernels.vocabulary import compact

logger = logging.getLogger(__name__)
LAYERS = {torch.nn.Linear: linear.linear, torch.nn.LayerNorm: linear.norm}


@contextlib.contextmanager
def accelerated(model: Any, precision: str, named: Any, compiled: bool = False) -> Iterator[bool]:
    """Train the model fast while this lasts; afterwards it is an ordinary one again. Tells whether it skips padding.

    Args:
        precision: `bf16` or `fp32`.
        named: sorted ids of all tokens that the model will see while it trains.
        compiled: whether its layers are compiled.
    """
    gpu = torch.cuda.is_available()
    model.to("cuda" if gpu else "cpu")  # the trial for `unpadded` is made where the model trains
    with contextlib.ExitStack() as held:
        free = held.enter_context(unpadded(model))
        if gpu:
            held.enter_context(_tensor_cores())
        else:
            held.enter_context(memory.kept())
            if model.main_input_name == "input_ids":
                logger.debug("embedding compact: %s", held.enter_context(compact(model, named)))
        if compiled:
            held.enter_context(_compiled(model))
        elif not gpu:  # layers that the compiler has no way to look into
            others = LAYERS if precision == "bf16" else {}
            held.enter_context(_replaced(model, {torch.nn.Dropout: dropout.forward, **others}))
        logger.debug("padding skipped: %s", free)
        yield free


@contextlib.contextmanager
def _compiled(model: Any) -> Iterator[None]:
    """Compile each of the model's layers for any number of tokens; attention, which sees the rows, is left as it is."""
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
def _tensor_cores() -> Iterator[None]:
    """What is computed in fp32 takes the GPU's tensor cores (TF32), where it has them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def _replaced(model: Any, forwards: dict[type, Any]) -> Iterator[None]:
    """Other forward passes for the layers of these very types."""
    changed = [one for one in model.modules() if type(one) in forwards]
    for layer in changed:
        layer.forward = functools.partial(forwards[type(layer)], layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward
