"""An embedding that trains only the rows which the train tokens name, and still learns what the whole one would.

A row that no token names has no gradient: AdamW leaves its moments at 0 and only decays it. The named rows therefore
train in a table of their own, with one row of ones at its end, which shrinks by the decay alone and so tells what is
left of all others. MiniLM's 30,522 rows are half of its weights; banking77 names 2,500 of them.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

WORTH = 0.7  # share of named rows above which the whole table trains as fast


@contextlib.contextmanager
def compact(model: Any, named: Any) -> Iterator[bool]:
    """Train the named rows alone while this lasts; afterwards the whole embedding is there again, as if it had trained.

    Args:
        named: sorted ids of all tokens that the model will see while it trains.
    """
    embedding = model.get_input_embeddings()
    whole = embedding.weight
    tied = sum(one is whole for _, one in model.named_parameters(remove_duplicate=False)) > 1
    if type(embedding) is not torch.nn.Embedding or tied or not whole.requires_grad or len(named) > WORTH * len(whole):
        yield False
        return
    with torch.no_grad():
        own = torch.cat([whole[named], whole.new_ones(1, whole.shape[1])])
    embedding.weight = torch.nn.Parameter(own)
    embedding.forward = _Lookup(embedding, whole.detach(), named)  # type: ignore[assignment]
    try:
        yield True
    finally:
        del embedding.forward
        with torch.no_grad():
            learned, left = embedding.weight[:-1], embedding.weight[-1]
            whole.mul_(left.to(whole.device))
            whole[named] = learned.to(whole.device)
        embedding.weight = whole


class _Lookup:
    """The forward pass of an embedding whose weight is compact."""

    def __init__(self, embedding: Any, whole: Any, named: Any) -> None:
        self._embedding, self._whole = embedding, whole
        self._place = torch.full((len(whole),), -1, device=whole.device)
        self._place[named] = torch.arange(len(named), device=whole.device)
        padding = embedding.padding_idx
        self._padding = None if padding is None or self._place[padding] < 0 else int(self._place[padding])

    def __call__(self, ids: Any) -> Any:
        weight, places = self._embedding.weight, self._place.to(ids.device)[ids]
        states = functional.embedding(places.clamp(min=0), weight, self._padding)
        if self._embedding.training:
            return states
        other = (places < 0).unsqueeze(-1)  # a validation row's token that no train row has
        return torch.where(other, self._whole.to(ids.device)[ids] * weight[-1], states)
