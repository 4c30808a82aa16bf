"""An encoder that takes and gives padded batches and computes on their real tokens alone."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface

from evertune.training.kernels import attention, varlen
from evertune.training.kernels.layout import Layout

logger = logging.getLogger(__name__)
IMPOSSIBLE = (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError)  # for this model, or machine
CLOSE = 1e-4  # largest difference of a state in fp32
# Tokens of a large flat batch are filled up to a multiple: oneDNN makes a kernel for each new shape, which takes 15% of
# the time of the products if every batch has its own.
MULTIPLE, LARGE = 32, 512


class Way(NamedTuple):
    """How a model takes flat batches.

    Args:
        first: position of a row's first token: BERT counts from 0, RoBERTa from behind its padding id.
        varlen: see `Layout`.
    """

    first: int
    varlen: bool


@contextlib.contextmanager
def unpadded(model: Any) -> Iterator[bool]:
    """Let the model's encoder skip all padding while this lasts, where it then still computes the same.

    A model whose positions or attention do not come from where this looks (relative positions, an attention function of
    its own) is left as it is; a trial with three rows of different length shows it.
    """
    encoder = model.base_model
    if model.main_input_name != "input_ids":  # pictures are all of one size
        yield False
        return
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.attend))  # type: ignore[no-untyped-call]
    before = encoder.config._attn_implementation
    padded = encoder.forward
    # What is called before it, such as for virtual tokens, makes padded batches of another width.
    way = None if encoder._forward_pre_hooks else _way(encoder, padded, before)
    if way is None:
        logger.info("%s keeps its padding: without it, it would compute something else", encoder.config.model_type)
        yield False
        return
    logger.debug("%s takes flat batches: %s", encoder.config.model_type, way)
    encoder.set_attn_implementation(attention.NAME)
    encoder.forward = _reading(encoder, _flat(padded, way), padded, before)
    try:
        yield True
    finally:
        del encoder.forward
        encoder.set_attn_implementation(before)


def _reading(encoder: Any, flat: Callable[..., Any], padded: Callable[..., Any], before: str) -> Callable[..., Any]:
    """The flat forward pass; the padded one where the model writes, and sees one more token each time."""

    def forward(*ids: Any, **given: Any) -> Any:
        if not given.get("use_cache"):
            return flat(*ids, **given)
        encoder.set_attn_implementation(before)
        try:
            return padded(*ids, **given)
        finally:
            encoder.set_attn_implementation(attention.NAME)

    return forward


def _way(encoder: Any, padded: Callable[..., Any], before: str) -> Way | None:
    """The first way in which flat batches give what padded ones give; None if there is none."""
    config, was_training, padding = encoder.config, encoder.training, encoder.config.pad_token_id or 0
    ids = torch.randint(config.vocab_size - 1, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([[5], [7], [2]])).long()
    ids = (ids + (ids >= padding)).masked_fill(mask == 0, padding)  # no real token is the padding's
    given = {"input_ids": ids.to(encoder.device), "attention_mask": mask.to(encoder.device)}
    kinds = [True, False] if varlen.fits(encoder.device) else [False]
    encoder.eval()
    try:
        with torch.inference_mode():
            wanted = padded(**given).last_hidden_state
        encoder.set_attn_implementation(attention.NAME)
        ways = (Way(first, kind) for kind in kinds for first in (0, padding + 1))
        return next((way for way in ways if _works(encoder, _flat(padded, way), given, wanted, way.varlen)), None)
    except IMPOSSIBLE as error:
        logger.debug("%s takes no other attention: %s", config.model_type, error)
        return None
    finally:
        encoder.set_attn_implementation(before)
        encoder.train(was_training)


def _works(encoder: Any, flat: Callable[..., Any], given: dict[str, Any], wanted: Any, learn: bool) -> bool:
    """Whether the flat forward pass gives the states that are wanted.

    Args:
        learn: whether its backward pass is tried too: it has kernels of its own.
    """
    real = given["attention_mask"] == 1
    try:
        with torch.inference_mode():
            found = flat(**given).last_hidden_state
        if not torch.allclose(found[real], wanted[real], atol=CLOSE):
            return False
        if learn:
            _learn(encoder, flat, given)
    except IMPOSSIBLE as error:
        logger.debug("%s does not take such flat batches: %s", encoder.config.model_type, error)
        return False
    return True


def _learn(encoder: Any, flat: Callable[..., Any], given: dict[str, Any]) -> None:
    """One step of learning in bf16, of which nothing is kept."""
    free = [one for one in encoder.parameters() if one.requires_grad]
    if not free:
        return
    encoder.train()
    with torch.random.fork_rng(), torch.autocast(encoder.device.type, torch.bfloat16):
        torch.autograd.grad(flat(**given).last_hidden_state.float().sum(), free, allow_unused=True)
    encoder.eval()


def _flat(padded: Callable[..., Any], way: Way) -> Callable[..., Any]:
    def forward(input_ids: Any, attention_mask: Any, position_ids: None = None, **others: Any) -> Any:
        """States of the real tokens, which stand before the padding of each row; those of padding are 0."""
        rows, width = input_ids.shape
        lengths = attention_mask.sum(1)
        order = lengths.argsort(descending=True, stable=True).cpu()
        sizes = lengths.cpu()[order]
        places, positions = _places(order, sizes, width, input_ids.device)
        real = len(places)
        if missing := -real % MULTIPLE if real >= LARGE else 0:  # tokens of no row, that nothing is made of
            places = torch.cat([places, places[:1].expand(missing)])
            positions = torch.cat([positions, positions[:1].expand(missing)])
        layout = Layout(sizes.tolist(), len(places), input_ids.device, way.varlen)
        given = {"input_ids": input_ids, **{name: value for name, value in others.items() if value is not None}}
        flat = {
            name: value.flatten()[places][None] if getattr(value, "shape", None) == input_ids.shape else value
            for name, value in given.items()
        }
        result = padded(**flat, position_ids=(positions + way.first)[None], layout=layout)
        states = result.last_hidden_state[0, :real]
        empty = states.new_zeros(rows * width, states.shape[-1])
        result.last_hidden_state = empty.index_copy(0, places[:real], states).view(rows, width, -1)
        return result

    return forward


def flattened(values: Any, mask: Any, total: int) -> Any:
    """What stands at each token of a flat batch: (rows, width, units) of a padded one -> (1, total, units).

    Args:
        mask: the padded batch's attention mask; total: tokens of the flat one; those of no row have 0.
    """
    lengths = mask.sum(1).cpu()
    order = lengths.argsort(descending=True, stable=True)
    places, _ = _places(order, lengths[order], mask.shape[1], mask.device)
    found = values.flatten(0, 1)[places]
    return torch.cat([found, found.new_zeros(total - len(found), found.shape[1])])[None]


def _places(order: Any, lengths: Any, width: int, device: Any) -> tuple[Any, Any]:
    """Where each flat token stands in the padded batch's flat view, and its position in its row.

    Args:
        order: rows in the order of the flat batch; lengths: of them, in this order.
    """
    starts = lengths.cumsum(0) - lengths
    positions = torch.arange(int(lengths.sum())) - starts.repeat_interleave(lengths)
    places = (order * width).repeat_interleave(lengths) + positions
    return places.to(device), positions.to(device)
