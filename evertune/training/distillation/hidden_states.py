"""A student also learns its teacher's hidden states, a layer of the one from a layer of the other.

Patient distillation (Sun et al. 2019), TinyBERT (Jiao et al. 2020, section 3.1), and by the angle DistilBERT (Sanh et
al. 2019). The teacher reads what the student's encoder is given, masked words as they are, in the very step: its states
of all train rows would take thousands of times the room of its logits.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from evertune.config.losses import Distill
from evertune.errors import ConfigError, TrainingError
from evertune.serving import bundle
from evertune.training.distillation import student
from evertune.training.kernels.unpadded import flattened, unpadded

MAPS = "maps_to_teacher"  # a part of the model while it learns, so that checkpoints and the optimiser have it


class States:
    """What the layers of student and teacher say of a batch.

    Args:
        encoder: the student's.
        pairs: layers of the student, and of the teacher.
        maps: for each pair what takes the student's state to the teacher's width.
    """

    def __init__(self, encoder: Any, teacher: Any, pairs: list[tuple[Any, Any]], maps: Any, distance: str) -> None:
        self._encoder, self._teacher, self._pairs, self._maps, self._kind = encoder, teacher, pairs, maps, distance
        self._given: Mapping[str, Any] = {}
        self._own: dict[int, Any] = {}
        self._said: dict[int, Any] = {}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note what the student's encoder is given, and what its layers make of it, while this lasts."""

        def note(_: Any, first: tuple[Any, ...], given: Mapping[str, Any]) -> None:
            named = {**dict(zip(("input_ids",), first, strict=True)), **given} if first else given
            self._given = {name: value for name, value in named.items() if value is not None}

        with contextlib.ExitStack() as held:
            held.callback(self._encoder.register_forward_pre_hook(note, with_kwargs=True).remove)
            _listen(held, [own for own, _ in self._pairs], self._own)
            yield

    def apart(self) -> Any:
        """How far the student's states are from the teacher's, summed over the real tokens of the batch.

        Of each token the mean over the pairs of layers; of squared errors also over the units.
        """
        mask = self._given["attention_mask"]
        with torch.no_grad(), contextlib.ExitStack() as held:
            _listen(held, [said for _, said in self._pairs], self._said)
            self._teacher(**self._given)
        total = sum(
            self._distance(project(_real(self._own.pop(place), mask)).float(), _real(self._said[place], mask).float())
            for place, project in enumerate(self._maps)
        )
        return total / len(self._pairs)

    def _distance(self, own: Any, said: Any) -> Any:
        if self._kind == "cosine":
            return (1 - torch.nn.functional.cosine_similarity(own, said, dim=-1)).sum()
        return (own - said).square().mean(-1).sum()


def _listen(held: contextlib.ExitStack, layers: list[Any], found: dict[int, Any]) -> None:
    """While `held` lasts, what each layer gives is in `found`, by its place."""
    found.clear()
    for place, layer in enumerate(layers):

        def note(_: Any, __: Any, made: Any, place: int = place) -> None:
            found[place] = made[0] if isinstance(made, tuple) else made

        held.callback(layer.register_forward_hook(note).remove)


def _real(states: Any, mask: Any) -> Any:
    """(tokens, units) of the real tokens, in the order of a flat batch; `states` are of a padded or of a flat one."""
    total = int(mask.sum())
    padded = states.shape[:2] == mask.shape
    return (flattened(states, mask, total) if padded else states)[0, :total]


@contextlib.contextmanager
def taught(model: Any, place: Path | None, rule: Distill | None) -> Iterator[States | None]:
    """The teacher's states, ready to be learned while this lasts; None where the recipe does not ask for them.

    Args:
        place: the teacher's bundle, or a base model.
    Raises:
        ConfigError: the teacher cannot be read, or has not the layers that are asked for.
    """
    if rule is None or not rule.hidden or place is None:
        yield None
        return
    teacher = encoder(place).to(model.device).requires_grad_(False).eval()
    pairs, widths = _pairs(model, teacher, rule), (model.base_model.config.hidden_size, teacher.config.hidden_size)
    same = widths[0] == widths[1]
    maps = torch.nn.ModuleList(torch.nn.Identity() if same else torch.nn.Linear(*widths) for _ in pairs)
    setattr(model, MAPS, maps.to(model.device))
    try:
        with unpadded(teacher):
            yield States(model.base_model, teacher, pairs, maps, rule.distance)
    finally:
        delattr(model, MAPS)


def encoder(place: Path) -> Any:
    """The encoder of a bundle, or of a base model.

    Raises:
        ConfigError: it cannot be read.
    """
    from transformers import AutoModel

    try:
        if (place / "evertune.json").is_file():
            return bundle.predictor(place, "fp32").model.base_model  # plain weights: autocast is the loop's
        return AutoModel.from_pretrained(str(place), dtype=torch.float32, trust_remote_code=False)
    except (TrainingError, OSError, ValueError) as error:
        raise ConfigError(f"training.distill.teacher: {str(error).splitlines()[0]}") from error


def _pairs(model: Any, teacher: Any, rule: Distill) -> list[tuple[Any, Any]]:
    """Layers of the student with those that teach them.

    Raises:
        ConfigError: one of them does not exist.
    """
    (_, own), (_, said) = (student.stack(one, "training.distill.hidden") for one in (model, teacher))
    if len(own) > len(said) and not rule.layers:
        raise ConfigError(
            f"training.distill.hidden: the student has {len(own)} layers, its teacher {len(said)}; name pairs of them "
            "in training.distill.layers"
        )
    named = rule.layers or {place + 1: one + 1 for place, one in enumerate(student.chosen(len(said), len(own)))}
    if max(named) > len(own) or max(named.values()) > len(said):
        raise ConfigError(
            f"training.distill.layers: the student has {len(own)} layers, its teacher {len(said)}; they count from 1"
        )
    return [(own[ours - 1], said[theirs - 1]) for ours, theirs in sorted(named.items())]
