"""Adversarial training on embeddings: a model also learns rows that were moved to where it errs most.

What is moved is the word embeddings of a row, by a vector whose length is taken over all of the row's tokens (Miyato et
al. 2017, Adversarial Training Methods for Semi-Supervised Text Classification, section 3). No weight is touched.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from evertune.config.losses import Fgm, FreeLb, Pgd
from evertune.training.kernels.unpadded import flattened

Batch = Mapping[str, Any]
Learn = Callable[[Batch, int], Any]  # forward and back of a batch, of whose loss one of so many parts counts
Loss = Callable[[Batch], Any]  # forward only


def learned(rule: Fgm | Pgd | FreeLb, model: Any, learn: Learn, loss: Loss, batch: Batch) -> Any:
    """The loss of a batch that is learned against the adversary; its gradients are added to the parameters'."""
    given = model, learn, batch
    if isinstance(rule, Fgm):
        return _fgm(rule, *given)
    return _pgd(rule, *given, loss) if isinstance(rule, Pgd) else _freelb(rule, *given)


def _fgm(rule: Fgm, model: Any, learn: Learn, batch: Batch) -> Any:
    """Half of the loss is the rows' own, half that after one step along the gradient (equations 5 and 6)."""
    still = _noise(model, batch, 0.0).requires_grad_()
    with _moved(model, batch, still):
        own = learn(batch, 2)
    with _moved(model, batch, rule.epsilon * _unit(still.grad)):
        return own + learn(batch, 2)


def _pgd(rule: Pgd, model: Any, learn: Learn, batch: Batch, loss: Loss) -> Any:
    """Steps from a random point of the ball, projected onto it; then the loss there (Madry et al. 2018, section 2)."""
    delta = _noise(model, batch, rule.epsilon)
    model.train()
    for _ in range(rule.steps):
        delta.requires_grad_()
        with _moved(model, batch, delta):
            (gradient,) = torch.autograd.grad(loss(batch), delta)
        delta = _within(delta.detach() + rule.step_size * _unit(gradient), rule.epsilon)
    with _moved(model, batch, delta):
        return learn(batch, 1)


def _freelb(rule: FreeLb, model: Any, learn: Learn, batch: Batch) -> Any:
    """The mean loss over all steps, whose gradients serve both sides (Zhu et al. 2020, FreeLB, algorithm 1)."""
    delta, total = _noise(model, batch, rule.epsilon), 0.0
    for left in reversed(range(rule.steps)):
        delta.requires_grad_()
        # All steps have the dropout mask of the first (section 3.3); behind the last one the generator moves on.
        with torch.random.fork_rng(enabled=left > 0), _moved(model, batch, delta):
            total = total + learn(batch, rule.steps)
        delta = _within(delta.detach() + rule.step_size * _unit(delta.grad), rule.epsilon)
    return total


@contextlib.contextmanager
def _moved(model: Any, batch: Batch, delta: Any) -> Iterator[None]:
    """The embedding of every token is moved by `delta`, (rows, length, units), while this lasts."""
    mask = batch["attention_mask"]

    def move(_: Any, __: Any, states: Any) -> Any:
        same = states.shape == delta.shape
        return states + (delta if same else flattened(delta, mask, states.shape[1])).to(states.dtype)

    handle = _embeddings(model).register_forward_hook(move)
    try:
        yield
    finally:
        handle.remove()


def _embeddings(model: Any) -> Any:
    """What the row's tokens go through: where a decoder reads another text, the encoder's own, its weights shared."""
    return (model.get_encoder() if model.config.is_encoder_decoder else model).get_input_embeddings()


def _noise(model: Any, batch: Batch, radius: float) -> Any:
    """A random point in each row's ball, (rows, length, units), 0 at its padding; from torch's own generator."""
    mask, units = batch["attention_mask"], _embeddings(model).weight.shape[1]
    if not radius:
        return torch.zeros(*mask.shape, units, device=mask.device)
    drawn = torch.empty(*mask.shape, units, device=mask.device).uniform_(-radius, radius) * mask[..., None]
    return drawn / (mask.sum(1)[:, None, None] * units).clamp(min=1).sqrt()


def _unit(gradient: Any) -> Any:
    """Each row's gradient with length 1; one of 0 stays so."""
    return gradient / _length(gradient).clamp(min=1e-12)


def _within(delta: Any, radius: float) -> Any:
    """Each row's vector, or the nearest to it that is no longer than `radius`."""
    return delta * (radius / _length(delta).clamp(min=1e-12)).clamp(max=1)


def _length(vectors: Any) -> Any:
    return vectors.flatten(1).norm(dim=1)[:, None, None]
