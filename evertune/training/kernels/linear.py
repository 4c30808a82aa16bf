"""Linear layers and layer norms in bfloat16 over weights in fp32 (Micikevicius et al. 2018, section 3.1).

Autocast gives the same products, but leaves every layer norm and residual sum in fp32 and casts them anew for each
linear layer. Here the states stay in bfloat16 from layer to layer; sums inside a product or a norm are in fp32.
"""

from typing import Any

import torch
from torch.nn import functional


class _Product(torch.autograd.Function):
    """`states @ weight.T + bias` in bfloat16, of (tokens, size); gradients of the parameters in their own dtype.

    Its result is no view: an adapter may add to it in place (`peft`'s AdaLoRA), and torch differentiates that.
    """

    @staticmethod
    def forward(ctx: Any, states: Any, weight: Any, bias: Any) -> Any:
        weight_bf16 = weight.to(torch.bfloat16)
        ctx.save_for_backward(states, weight_bf16)
        ctx.kind = weight.dtype
        bias_bf16 = None if bias is None else bias.to(torch.bfloat16)
        # What `addmm` computes, to the bit; but that first fills its result with the bias, which takes a pass over it.
        return torch.ops.mkldnn._linear_pointwise(states, weight_bf16, bias_bf16, "none", [], "")

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        flat, weight_bf16 = ctx.saved_tensors
        states, weight, bias = ctx.needs_input_grad
        return (
            gradient @ weight_bf16 if states else None,
            (gradient.t() @ flat).to(ctx.kind) if weight else None,
            gradient.sum(0).to(ctx.kind) if bias else None,
        )


def forward_linear(module: torch.nn.Linear, states: Any) -> Any:
    """What `torch.nn.Linear` computes, in bfloat16 while it trains."""
    if not module.training:
        return functional.linear(states, module.weight, module.bias)
    flat = states.to(torch.bfloat16).reshape(-1, states.shape[-1])
    product = _Product.apply(flat, module.weight, module.bias)  # type: ignore[no-untyped-call]
    return product.view(*states.shape[:-1], -1)


def forward_norm(module: torch.nn.LayerNorm, states: Any) -> Any:
    """What `torch.nn.LayerNorm` computes, with its result in bfloat16 while it trains."""
    shape = module.normalized_shape
    weight = module.weight
    bias = module.bias
    if not module.training:
        return functional.layer_norm(states, shape, weight, bias, module.eps)
    with torch.autocast(states.device.type, enabled=False):  # which would make fp32 of the states
        return functional.layer_norm(states, shape, weight, bias, module.eps).to(torch.bfloat16)
