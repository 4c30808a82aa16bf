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
def compact_embedding(model: Any, token_ids: Any) -> Iterator[bool]:
    """Train the named rows alone while this lasts; afterwards the whole embedding is there again, as if it had trained.

    Args:
        named: sorted ids of all tokens that the model will see while it trains.
    """
    embedding = model.get_input_embeddings()
    whole = embedding.weight
    tied = sum(parameter is whole for _, parameter in model.named_parameters(remove_duplicate=False)) > 1
    if (
        type(embedding) is not torch.nn.Embedding
        or tied
        or not whole.requires_grad
        or len(token_ids) > WORTH * len(whole)
    ):
        yield False
        return
    with torch.no_grad():
        compact_weight = torch.cat([whole[token_ids], whole.new_ones(1, whole.shape[1])])
    embedding.weight = torch.nn.Parameter(compact_weight)
    embedding.forward = _Lookup(embedding, whole.detach(), token_ids)  # type: ignore[assignment]
    try:
        yield True
    finally:
        del embedding.forward
        with torch.no_grad():
            trained_rows = embedding.weight[:-1]
            shrinkage = embedding.weight[-1]
            whole.mul_(shrinkage.to(whole.device))
            whole[token_ids] = trained_rows.to(whole.device)
        embedding.weight = whole


class _Lookup:
    """The forward pass of an embedding whose weight is compact."""

    def __init__(self, embedding: Any, whole: Any, token_ids: Any) -> None:
        self._embedding = embedding
        self._whole = whole
        self._place = torch.full((len(whole),), -1, device=whole.device)
        self._place[token_ids] = torch.arange(len(token_ids), device=whole.device)
        padding = embedding.padding_idx
        self._padding = None if padding is None or self._place[padding] < 0 else int(self._place[padding])

    def __call__(self, ids: Any) -> Any:
        weight = self._embedding.weight
        rows = self._place.to(ids.device)[ids]
        states = functional.embedding(rows.clamp(min=0), weight, self._padding)
        if self._embedding.training:
            return states
        is_untrained = (rows < 0).unsqueeze(-1)  # a validation row's token that no train row has
        return torch.where(is_untrained, self._whole.to(ids.device)[ids] * weight[-1], states)
