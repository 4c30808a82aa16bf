"""Adversarial training on embeddings: a model also learns rows perturbed in the direction in which it errs most.

The perturbation is added to the word embeddings of a row; its length is taken over all of the row's tokens (Miyato et
al. 2017, Adversarial Training Methods for Semi-Supervised Text Classification, section 3). Weights are not perturbed.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, cast

import torch

from evertune.config.losses import Fgm, FreeLb, Pgd
from evertune.training.kernels.unpadded import flatten_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Batch = Mapping[str, torch.Tensor]
Learn = Callable[
    [Batch, int], torch.Tensor
]  # forward and backward pass of a batch, with its loss divided by a number of parts
Loss = Callable[[Batch], torch.Tensor]  # forward only


def learn_adversarially(
    rule: Fgm | Pgd | FreeLb, model: "PreTrainedModel", learn: Learn, loss: Loss, batch: Batch
) -> torch.Tensor:
    """Return the adversarial loss of a batch, and add its gradients to the parameters' gradients."""
    if isinstance(rule, Fgm):
        return _learn_fgm(rule, model, learn, batch)
    if isinstance(rule, Pgd):
        return _learn_pgd(rule, model, learn, batch, loss)
    return _learn_freelb(rule, model, learn, batch)


def _learn_fgm(rule: Fgm, model: "PreTrainedModel", learn: Learn, batch: Batch) -> torch.Tensor:
    """Return the mean of the clean loss and the loss after one step along the gradient (equations 5 and 6)."""
    zero_delta = _draw_noise(model, batch, 0.0).requires_grad_()
    with _move_embeddings(model, batch, zero_delta):
        clean_loss = learn(batch, 2)
    with _move_embeddings(model, batch, rule.epsilon * _normalise_rows(cast(torch.Tensor, zero_delta.grad))):
        return clean_loss + learn(batch, 2)


def _learn_pgd(rule: Pgd, model: "PreTrainedModel", learn: Learn, batch: Batch, loss: Loss) -> torch.Tensor:
    """Return the loss after projected steps from a random point of the ball (Madry et al. 2018, section 2)."""
    delta = _draw_noise(model, batch, rule.epsilon)
    model.train()
    for _ in range(rule.steps):
        delta.requires_grad_()
        with _move_embeddings(model, batch, delta):
            (gradient,) = torch.autograd.grad(loss(batch), delta)
        delta = _project_rows(delta.detach() + rule.step_size * _normalise_rows(gradient), rule.epsilon)
    with _move_embeddings(model, batch, delta):
        return learn(batch, 1)


def _learn_freelb(rule: FreeLb, model: "PreTrainedModel", learn: Learn, batch: Batch) -> torch.Tensor:
    """Return the mean loss of all steps; gradients serve model and perturbation (Zhu et al. 2020, algorithm 1)."""
    delta = _draw_noise(model, batch, rule.epsilon)
    total: torch.Tensor | float = 0.0
    for steps_left in reversed(range(rule.steps)):
        delta.requires_grad_()
        # All steps use the dropout mask of the first (section 3.3); after the last one the generator moves on.
        with torch.random.fork_rng(enabled=steps_left > 0), _move_embeddings(model, batch, delta):
            total = total + learn(batch, rule.steps)
        delta = _project_rows(
            delta.detach() + rule.step_size * _normalise_rows(cast(torch.Tensor, delta.grad)), rule.epsilon
        )
    return cast(torch.Tensor, total)


@contextlib.contextmanager
def _move_embeddings(model: "PreTrainedModel", batch: Batch, delta: torch.Tensor) -> Iterator[None]:
    """Add `delta` (rows, length, units) to the embedding of every token for the duration of the block."""
    mask = batch["attention_mask"]

    def add_delta(_: torch.nn.Module, __: object, states: torch.Tensor) -> torch.Tensor:
        is_padded = states.shape == delta.shape
        return states + (delta if is_padded else flatten_states(delta, mask, states.shape[1])).to(states.dtype)

    handle = _input_embeddings(model).register_forward_hook(add_delta)
    try:
        yield
    finally:
        handle.remove()


def _input_embeddings(model: "PreTrainedModel") -> torch.nn.Embedding:
    """Return the input embeddings; of an encoder-decoder model, those of the encoder, shared with the decoder."""
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    embeddings: torch.nn.Embedding = encoder.get_input_embeddings()
    return embeddings


def _draw_noise(model: "PreTrainedModel", batch: Batch, radius: float) -> torch.Tensor:
    """Draw a random point in each row's ball, (rows, length, units), 0 at padding, from torch's own generator."""
    mask = batch["attention_mask"]
    units = _input_embeddings(model).weight.shape[1]
    if not radius:
        return torch.zeros(*mask.shape, units, device=mask.device)
    noise = torch.empty(*mask.shape, units, device=mask.device).uniform_(-radius, radius) * mask[..., None]
    return noise / (mask.sum(1)[:, None, None] * units).clamp(min=1).sqrt()


def _normalise_rows(gradient: torch.Tensor) -> torch.Tensor:
    """Scale each row's gradient to length 1; a gradient of 0 stays 0."""
    return gradient / _row_norms(gradient).clamp(min=1e-12)


def _project_rows(delta: torch.Tensor, radius: float) -> torch.Tensor:
    """Project each row's vector onto the ball of the given radius."""
    return delta * (radius / _row_norms(delta).clamp(min=1e-12)).clamp(max=1)


def _row_norms(vectors: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = vectors.flatten(1).norm(dim=1)[:, None, None]
    return norms
