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
from evertune.training.kernels.unpadded import flatten_states, skip_padding

MAPS = "maps_to_teacher"  # a part of the model while it learns, so that checkpoints and the optimiser have it


class HiddenStates:
    """What the layers of student and teacher say of a batch.

    Args:
        encoder: the student's.
        pairs: layers of the student, and of the teacher.
        maps: for each pair what takes the student's state to the teacher's width.
    """

    def __init__(self, encoder: Any, teacher: Any, pairs: list[tuple[Any, Any]], maps: Any, distance: str) -> None:
        self._encoder = encoder
        self._teacher = teacher
        self._pairs = pairs
        self._maps = maps
        self._kind = distance
        self._inputs: Mapping[str, Any] = {}
        self._student_states: dict[int, Any] = {}
        self._teacher_states: dict[int, Any] = {}

    @contextlib.contextmanager
    def watch_student(self) -> Iterator[None]:
        """Note what the student's encoder is given, and what its layers make of it, while this lasts."""

        def record_inputs(_: Any, positional: tuple[Any, ...], keyword: Mapping[str, Any]) -> None:
            inputs = {**dict(zip(("input_ids",), positional, strict=True)), **keyword} if positional else keyword
            self._inputs = {name: value for name, value in inputs.items() if value is not None}

        with contextlib.ExitStack() as hooks:
            hooks.callback(self._encoder.register_forward_pre_hook(record_inputs, with_kwargs=True).remove)
            _record_outputs(hooks, [student_layer for student_layer, _ in self._pairs], self._student_states)
            yield

    def sum_distances(self) -> Any:
        """How far the student's states are from the teacher's, summed over the real tokens of the batch.

        Of each token the mean over the pairs of layers; of squared errors also over the units.
        """
        mask = self._inputs["attention_mask"]
        with torch.no_grad(), contextlib.ExitStack() as hooks:
            _record_outputs(hooks, [teacher_layer for _, teacher_layer in self._pairs], self._teacher_states)
            self._teacher(**self._inputs)
        total = sum(
            self._compute_distance(
                project(_select_real_tokens(self._student_states.pop(index), mask)).float(),
                _select_real_tokens(self._teacher_states[index], mask).float(),
            )
            for index, project in enumerate(self._maps)
        )
        return total / len(self._pairs)

    def _compute_distance(self, student_states: Any, teacher_states: Any) -> Any:
        if self._kind == "cosine":
            return (1 - torch.nn.functional.cosine_similarity(student_states, teacher_states, dim=-1)).sum()
        return (student_states - teacher_states).square().mean(-1).sum()


def _record_outputs(hooks: contextlib.ExitStack, layers: list[Any], outputs: dict[int, Any]) -> None:
    """While `held` lasts, what each layer gives is in `found`, by its place."""
    outputs.clear()
    for index, layer in enumerate(layers):

        def record_output(_: Any, __: Any, output: Any, index: int = index) -> None:
            outputs[index] = output[0] if isinstance(output, tuple) else output

        hooks.callback(layer.register_forward_hook(record_output).remove)


def _select_real_tokens(states: Any, attention_mask: Any) -> Any:
    """(tokens, units) of the real tokens, in the order of a flat batch; `states` are of a padded or of a flat one."""
    total = int(attention_mask.sum())
    padded = states.shape[:2] == attention_mask.shape
    return (flatten_states(states, attention_mask, total) if padded else states)[0, :total]


@contextlib.contextmanager
def attach_teacher(model: Any, teacher_path: Path | None, rule: Distill | None) -> Iterator[HiddenStates | None]:
    """The teacher's states, ready to be learned while this lasts; None where the recipe does not ask for them.

    Args:
        place: the teacher's bundle, or a base model.
    Raises:
        ConfigError: the teacher cannot be read, or has not the layers that are asked for.
    """
    if rule is None or not rule.hidden or teacher_path is None:
        yield None
        return
    teacher = load_encoder(teacher_path).to(model.device).requires_grad_(False).eval()
    pairs = _pair_layers(model, teacher, rule)
    widths = (model.base_model.config.hidden_size, teacher.config.hidden_size)
    is_same_width = widths[0] == widths[1]
    maps = torch.nn.ModuleList(torch.nn.Identity() if is_same_width else torch.nn.Linear(*widths) for _ in pairs)
    setattr(model, MAPS, maps.to(model.device))
    try:
        with skip_padding(teacher):
            yield HiddenStates(model.base_model, teacher, pairs, maps, rule.distance)
    finally:
        delattr(model, MAPS)


def load_encoder(model_path: Path) -> Any:
    """The encoder of a bundle, or of a base model.

    Raises:
        ConfigError: it cannot be read.
    """
    from transformers import AutoModel

    try:
        if (model_path / "evertune.json").is_file():
            return bundle.load_predictor(model_path, "fp32").model.base_model  # plain weights: autocast is the loop's
        return AutoModel.from_pretrained(str(model_path), dtype=torch.float32, trust_remote_code=False)
    except (TrainingError, OSError, ValueError) as error:
        raise ConfigError(f"training.distill.teacher: {str(error).splitlines()[0]}") from error


def _pair_layers(model: Any, teacher: Any, rule: Distill) -> list[tuple[Any, Any]]:
    """Layers of the student with those that teach them.

    Raises:
        ConfigError: one of them does not exist.
    """
    (_, student_layers), (_, teacher_layers) = (
        student.find_stack(network, "training.distill.hidden") for network in (model, teacher)
    )
    if len(student_layers) > len(teacher_layers) and not rule.layers:
        raise ConfigError(
            f"training.distill.hidden: the student has {len(student_layers)} layers, its teacher "
            f"{len(teacher_layers)}; name pairs of them "
            "in training.distill.layers"
        )
    layer_numbers = rule.layers or {
        index + 1: layer + 1
        for index, layer in enumerate(student.choose_layers(len(teacher_layers), len(student_layers)))
    }
    if max(layer_numbers) > len(student_layers) or max(layer_numbers.values()) > len(teacher_layers):
        raise ConfigError(
            f"training.distill.layers: the student has {len(student_layers)} layers, its teacher "
            f"{len(teacher_layers)}; they count from 1"
        )
    return [
        (student_layers[student_number - 1], teacher_layers[teacher_number - 1])
        for student_number, teacher_number in sorted(layer_numbers.items())
    ]
