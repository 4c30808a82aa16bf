"""Let an encoder take and return padded batches, but compute on their real tokens alone."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from transformers import AttentionInterface

from evertune.training.kernels import attention, varlen
from evertune.training.kernels.layout import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutput

    Forward = Callable[..., BaseModelOutput]  # forward pass of an encoder

logger = logging.getLogger(__name__)
IMPOSSIBLE = (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError)  # unsupported model or machine
CLOSE = 1e-4  # largest difference of a state in fp32
# Large flat batches are padded to a multiple: oneDNN compiles a kernel for each new shape, which takes 15% of the time
# of the products if every batch has its own shape.
MULTIPLE = 32
LARGE = 512


class FlatScheme(NamedTuple):
    """How a model accepts flat batches.

    Args:
        first: position of a row's first token: 0 for BERT, the padding id plus 1 for RoBERTa.
        varlen: see `Layout`.
    """

    first: int
    varlen: bool


@contextlib.contextmanager
def skip_padding(model: "PreTrainedModel") -> Iterator[bool]:
    """Let the model's encoder skip padding for the duration of the block, if its results stay the same.

    Yields whether it does. A model with relative positions, or with an attention function of its own, is left
    unchanged; a trial with three rows of different length tells.
    """
    encoder = model.base_model
    if model.main_input_name != "input_ids":  # images all have one size
        yield False
        return
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.attend))  # type: ignore[no-untyped-call]
    attention_before = encoder.config._attn_implementation
    padded = encoder.forward
    # A pre-hook, such as one for virtual tokens, returns padded batches of another width.
    scheme = None if encoder._forward_pre_hooks else _find_scheme(encoder, padded, attention_before)
    if scheme is None:
        logger.info("%s keeps its padding: without padding, its results would differ", encoder.config.model_type)
        yield False
        return
    logger.debug("%s accepts flat batches: %s", encoder.config.model_type, scheme)
    encoder.set_attn_implementation(attention.NAME)
    encoder.forward = _build_forward(encoder, _flatten_forward(padded, scheme), padded, attention_before)
    try:
        yield True
    finally:
        del encoder.forward
        encoder.set_attn_implementation(attention_before)


def _build_forward(encoder: "PreTrainedModel", flat: "Forward", padded: "Forward", attention_before: str) -> "Forward":
    """Return the flat forward pass, and the padded one for generation, which adds a token at a time."""

    def forward(*ids: torch.Tensor, **inputs: object) -> "BaseModelOutput":
        if not inputs.get("use_cache"):
            return flat(*ids, **inputs)
        encoder.set_attn_implementation(attention_before)
        try:
            return padded(*ids, **inputs)
        finally:
            encoder.set_attn_implementation(attention.NAME)

    return forward


def _find_scheme(encoder: "PreTrainedModel", padded: "Forward", attention_before: str) -> FlatScheme | None:
    """Return the first scheme whose results equal those of padded batches; None without any."""
    config = encoder.config
    was_training = encoder.training
    padding = encoder.config.pad_token_id or 0
    ids = torch.randint(config.vocab_size - 1, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([[5], [7], [2]])).long()
    ids = (ids + (ids >= padding)).masked_fill(mask == 0, padding)  # no real token is the padding token
    inputs = {"input_ids": ids.to(encoder.device), "attention_mask": mask.to(encoder.device)}
    kinds = [True, False] if varlen.supports_device(encoder.device) else [False]
    encoder.eval()
    try:
        with torch.inference_mode():
            expected = padded(**inputs).last_hidden_state
        encoder.set_attn_implementation(attention.NAME)
        for scheme in [FlatScheme(first, kind) for kind in kinds for first in (0, padding + 1)]:
            if _is_equivalent(encoder, _flatten_forward(padded, scheme), inputs, expected, scheme.varlen):
                return scheme
        return None
    except IMPOSSIBLE as error:
        logger.debug("%s does not accept another attention function: %s", config.model_type, error)
        return None
    finally:
        encoder.set_attn_implementation(attention_before)
        encoder.train(was_training)


def _is_equivalent(
    encoder: "PreTrainedModel",
    flat: "Forward",
    inputs: dict[str, torch.Tensor],
    expected: torch.Tensor,
    try_backward: bool,
) -> bool:
    """Whether the flat forward pass returns the expected states.

    Args:
        encoder: of the model.
        flat: its flat forward pass.
        inputs: a padded batch.
        expected: states of the padded forward pass.
        try_backward: also try the backward pass, which has kernels of its own.
    """
    real = inputs["attention_mask"] == 1
    try:
        with torch.inference_mode():
            states = flat(**inputs).last_hidden_state
        if not torch.allclose(states[real], expected[real], atol=CLOSE):
            return False
        if try_backward:
            _try_backward(encoder, flat, inputs)
    except IMPOSSIBLE as error:
        logger.debug("%s does not accept these flat batches: %s", encoder.config.model_type, error)
        return False
    return True


def _try_backward(encoder: "PreTrainedModel", flat: "Forward", inputs: dict[str, torch.Tensor]) -> None:
    """Run one forward and backward pass in bf16, and discard the gradients."""
    trainable = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    if not trainable:
        return
    encoder.train()
    with torch.random.fork_rng(), torch.autocast(encoder.device.type, torch.bfloat16):
        torch.autograd.grad(flat(**inputs).last_hidden_state.float().sum(), trainable, allow_unused=True)
    encoder.eval()


def _flatten_forward(padded: "Forward", scheme: FlatScheme) -> "Forward":
    def forward(
        input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: None = None, **others: object
    ) -> "BaseModelOutput":
        """Return the states of the real tokens, which come before the padding of each row; 0 at padding."""
        rows, width = input_ids.shape
        lengths = attention_mask.sum(1)
        order = lengths.argsort(descending=True, stable=True).cpu()
        sizes = lengths.cpu()[order]
        indices, positions = _flat_indices(order, sizes, width, input_ids.device)
        real = len(indices)
        fill = -real % MULTIPLE if real >= LARGE else 0
        if fill:  # tokens that belong to no row, whose states are dropped
            indices = torch.cat([indices, indices[:1].expand(fill)])
            positions = torch.cat([positions, positions[:1].expand(fill)])
        layout = Layout(sizes.tolist(), len(indices), input_ids.device, scheme.varlen)
        flat = {}
        for name, value in {"input_ids": input_ids, **others}.items():
            if value is not None:
                is_token_wise = getattr(value, "shape", None) == input_ids.shape
                flat[name] = cast(torch.Tensor, value).flatten()[indices][None] if is_token_wise else value
        result = padded(**flat, position_ids=(positions + scheme.first)[None], layout=layout)
        states = result.last_hidden_state[0, :real]
        empty = states.new_zeros(rows * width, states.shape[-1])
        result.last_hidden_state = empty.index_copy(0, indices[:real], states).view(rows, width, -1)
        return result

    return forward


def flatten_states(values: torch.Tensor, mask: torch.Tensor, total: int) -> torch.Tensor:
    """Flatten values of a padded batch, (rows, width, units), to those of the flat batch, (1, total, units).

    Args:
        values: of the padded batch.
        mask: attention mask of the padded batch.
        total: number of tokens of the flat batch; tokens that belong to no row get 0.
    """
    lengths = mask.sum(1).cpu()
    order = lengths.argsort(descending=True, stable=True)
    indices, _ = _flat_indices(order, lengths[order], mask.shape[1], mask.device)
    flat_values = values.flatten(0, 1)[indices]
    return torch.cat([flat_values, flat_values.new_zeros(total - len(flat_values), flat_values.shape[1])])[None]


def _flat_indices(
    order: torch.Tensor, lengths: torch.Tensor, width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each flat token's index in the padded batch's flat view, and its position in its row.

    Args:
        order: rows in the order of the flat batch.
        lengths: of the rows, in this order.
        width: of the padded batch.
        device: of the result.
    """
    starts = lengths.cumsum(0) - lengths
    positions = torch.arange(int(lengths.sum())) - starts.repeat_interleave(lengths)
    indices = (order * width).repeat_interleave(lengths) + positions
    return indices.to(device), positions.to(device)
