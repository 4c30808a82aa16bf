"""What makes a training step fast and changes nothing of what is learned."""

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Any

import torch

from evertune import memory
from evertune.kernels import dropout, linear
from evertune.kernels.unpadded import unpadded
from evertune.kernels.vocabulary import compact

logger = logging.getLogger(__name__)
LAYERS = {torch.nn.Linear: linear.linear, torch.nn.LayerNorm: linear.norm}


@contextlib.contextmanager
def accelerated(model: Any, precision: str, named: Any) -> Iterator[bool]:
    """Train the model fast while this lasts; afterwards it is an ordinary one again. Tells whether it skips padding.

    Args:
        precision: `bf16` or `fp32`.
        named: sorted ids of all tokens that the model will see while it trains.
    """
    with contextlib.ExitStack() as held:
        free = held.enter_context(unpadded(model))
        if not torch.cuda.is_available():
            held.enter_context(memory.kept())
            small = held.enter_context(compact(model, named))
            held.enter_context(_replaced(model, {torch.nn.Dropout: dropout.forward}))
            if precision == "bf16":
                held.enter_context(_replaced(model, LAYERS))
            logger.debug("padding skipped: %s; embedding compact: %s", free, small)
        else:
            held.enter_context(_tensor_cores())
        yield free


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
