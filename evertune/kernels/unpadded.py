"""An encoder that takes and gives padded batches and computes on their real tokens alone."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import AttentionInterface

from evertune.kernels import attention
from evertune.kernels.layout import Layout

logger = logging.getLogger(__name__)
CLOSE = 1e-4  # largest difference of a state in fp32
# Tokens of a large flat batch are filled up to a multiple: oneDNN makes a kernel for each new shape, which takes 15% of
# the time of the products if every batch has its own.
MULTIPLE, LARGE = 32, 512


@contextlib.contextmanager
def unpadded(model: Any) -> Iterator[bool]:
    """Let the model's encoder skip all padding while this lasts, where it then still computes the same.

    A model whose positions or attention do not come from where this looks (relative positions, an attention function of
    its own) is left as it is; a trial with three rows of different length shows it.
    """
    encoder = model.base_model
    AttentionInterface.register(attention.NAME, attention.attend)
    before = encoder.config._attn_implementation
    padded = encoder.forward
    first = _first_position(encoder, padded, before)
    if first is None:
        logger.info("%s keeps its padding: without it, it would compute something else", encoder.config.model_type)
        yield False
        return
    encoder.set_attn_implementation(attention.NAME)
    encoder.forward = _flat(padded, first)
    try:
        yield True
    finally:
        del encoder.forward
        encoder.set_attn_implementation(before)


def _first_position(encoder: Any, padded: Callable[..., Any], before: str) -> int | None:
    """Position of a row's first token with which flat batches give what padded ones give; None if none does.

    BERT counts from 0, RoBERTa from behind its padding id.
    """
    config, was_training, padding = encoder.config, encoder.training, encoder.config.pad_token_id or 0
    ids = torch.randint(config.vocab_size - 1, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([[5], [7], [2]])).long()
    ids = (ids + (ids >= padding)).masked_fill(mask == 0, padding).to(encoder.device)  # no real token is the padding's
    mask = mask.to(encoder.device)
    encoder.eval()
    try:
        with torch.inference_mode():
            wanted = padded(input_ids=ids, attention_mask=mask).last_hidden_state
            encoder.set_attn_implementation(attention.NAME)
            for first in (0, padding + 1):
                found = _flat(padded, first)(input_ids=ids, attention_mask=mask).last_hidden_state
                if torch.allclose(found[mask == 1], wanted[mask == 1], atol=CLOSE):
                    return first
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        logger.debug("%s does not take flat batches: %s", config.model_type, error)
    finally:
        encoder.set_attn_implementation(before)
        encoder.train(was_training)
    return None


def _flat(padded: Callable[..., Any], first: int) -> Callable[..., Any]:
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
        layout = Layout(sizes.tolist(), len(places), input_ids.device)
        given = {"input_ids": input_ids, **{name: value for name, value in others.items() if value is not None}}
        flat = {
            name: value.flatten()[places][None] if getattr(value, "shape", None) == input_ids.shape else value
            for name, value in given.items()
        }
        result = padded(**flat, position_ids=(positions + first)[None], layout=layout)
        states = result.last_hidden_state[0, :real]
        empty = states.new_zeros(rows * width, states.shape[-1])
        result.last_hidden_state = empty.index_copy(0, places[:real], states).view(rows, width, -1)
        return result

    return forward


def _places(order: Any, lengths: Any, width: int, device: Any) -> tuple[Any, Any]:
    """Where each flat token stands in the padded batch's flat view, and its position in its row.

    Args:
        order: rows in the order of the flat batch; lengths: of them, in this order.
    """
    starts = lengths.cumsum(0) - lengths
    positions = torch.arange(int(lengths.sum())) - starts.repeat_interleave(lengths)
    places = (order * width).repeat_interleave(lengths) + positions
    return places.to(device), positions.to(device)
