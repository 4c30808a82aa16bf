"""Linear layers and layer norms in bfloat16 over weights in fp32 (Micikevicius et al. 2018, section 3.1).

Autocast gives the same products, but leaves every layer norm and residual sum in fp32 and casts them again for each
linear layer. Here states stay in bfloat16 between layers; sums inside a product or a norm are in fp32.
"""

from typing import Any

import torch
from torch.nn import functional


class _Product(torch.autograd.Function):
    """`states @ weight.T + bias` in bfloat16, of (tokens, size); gradients of the parameters in their own dtype.

    The result is not a view: an adapter may add to it in place (`peft`'s AdaLoRA), and torch differentiates that.
    """

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        weight_bf16 = weight.to(torch.bfloat16)
        ctx.save_for_backward(states, weight_bf16)
        ctx.kind = weight.dtype
        bias_bf16 = None if bias is None else bias.to(torch.bfloat16)
        # Bitwise the result of `addmm`, which takes one more pass over its result to fill it with the bias.
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, weight_bf16, bias_bf16, "none", [], "")
        return product

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, weight_bf16 = ctx.saved_tensors
        states, weight, bias = ctx.needs_input_grad
        return (
            gradient @ weight_bf16 if states else None,
            (gradient.t() @ flat).to(ctx.kind) if weight else None,
            gradient.sum(0).to(ctx.kind) if bias else None,
        )


def forward_linear(module: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    """Compute `torch.nn.Linear`, in bfloat16 during training."""
    if not module.training:
        return functional.linear(states, module.weight, module.bias)
    flat = states.to(torch.bfloat16).reshape(-1, states.shape[-1])
    product: torch.Tensor = _Product.apply(flat, module.weight, module.bias)  # type: ignore[no-untyped-call]
    return product.view(*states.shape[:-1], -1)


def forward_norm(module: torch.nn.LayerNorm, states: torch.Tensor) -> torch.Tensor:
    """Compute `torch.nn.LayerNorm`, with its result in bfloat16 during training."""
    shape = module.normalized_shape
    weight = module.weight
    bias = module.bias
    if not module.training:
        return functional.layer_norm(states, shape, weight, bias, module.eps)
    with torch.autocast(states.device.type, enabled=False):  # autocast would convert the states to fp32
        return functional.layer_norm(states, shape, weight, bias, module.eps).to(torch.bfloat16)
