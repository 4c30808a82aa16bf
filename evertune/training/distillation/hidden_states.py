"""Distillation of hidden states: each layer of the student learns the states of a layer of the teacher.

Patient distillation (Sun et al. 2019), TinyBERT (Jiao et al. 2020, section 3.1), and with the cosine distance
DistilBERT (Sanh et al. 2019). The teacher reads the inputs of the student's encoder, with the same masked tokens, in
the same step: storing its states of all train rows would take thousands of times the space of its logits.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from evertune.config.losses import Distill
from evertune.errors import ConfigError, TrainingError
from evertune.serving import bundle
from evertune.training.distillation import student
from evertune.training.kernels.unpadded import flatten_states, skip_padding

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAPS = "maps_to_teacher"  # a submodule of the model during training, so that checkpoints and the optimiser include it


class HiddenStates:
    """The hidden states of student and teacher for a batch.

    Args:
        encoder: of the student.
        teacher: its encoder.
        pairs: (layer of the student, layer of the teacher).
        maps: for each pair a module that maps the student's states to the teacher's width.
        distance: `cosine`, or mean squared error.
    """

    def __init__(
        self,
        encoder: "PreTrainedModel",
        teacher: "PreTrainedModel",
        pairs: list[tuple[torch.nn.Module, torch.nn.Module]],
        maps: torch.nn.ModuleList,
        distance: str,
    ) -> None:
        self._encoder = encoder
        self._teacher = teacher
        self._pairs = pairs
        self._maps = maps
        self._distance = distance
        self._inputs: Mapping[str, torch.Tensor] = {}
        self._student_states: dict[int, torch.Tensor] = {}
        self._teacher_states: dict[int, torch.Tensor] = {}

    @contextlib.contextmanager
    def watch_student(self) -> Iterator[None]:
        """Record the inputs of the student's encoder and the outputs of its layers during the block."""

        def record_inputs(
            _: torch.nn.Module, positional: tuple[torch.Tensor, ...], keyword: Mapping[str, torch.Tensor | None]
        ) -> None:
            inputs = dict(keyword)
            if positional:
                (inputs["input_ids"],) = positional
            self._inputs = {name: value for name, value in inputs.items() if value is not None}

        with contextlib.ExitStack() as hooks:
            hooks.callback(self._encoder.register_forward_pre_hook(record_inputs, with_kwargs=True).remove)
            _record_outputs(hooks, [student_layer for student_layer, _ in self._pairs], self._student_states)
            yield

    def sum_distances(self) -> torch.Tensor:
        """Return the distance of the student's states from the teacher's, summed over the real tokens of the batch.

        The distance of a token is the mean over pairs of layers, and for squared errors also over units.
        """
        mask = self._inputs["attention_mask"]
        with torch.no_grad(), contextlib.ExitStack() as hooks:
            _record_outputs(hooks, [teacher_layer for _, teacher_layer in self._pairs], self._teacher_states)
            self._teacher(**self._inputs)
        total: torch.Tensor | int = 0
        for index, project in enumerate(self._maps):
            student_states = project(_select_real_tokens(self._student_states.pop(index), mask))
            teacher_states = _select_real_tokens(self._teacher_states[index], mask)
            total = total + self._compute_distance(student_states.float(), teacher_states.float())
        return cast(torch.Tensor, total / len(self._pairs))

    def _compute_distance(self, student_states: torch.Tensor, teacher_states: torch.Tensor) -> torch.Tensor:
        if self._distance == "cosine":
            return (1 - torch.nn.functional.cosine_similarity(student_states, teacher_states, dim=-1)).sum()
        return (student_states - teacher_states).square().mean(-1).sum()


def _record_outputs(
    hooks: contextlib.ExitStack, layers: list[torch.nn.Module], outputs: dict[int, torch.Tensor]
) -> None:
    """Record the output of each layer in `outputs`, by its index, while `hooks` is open."""
    outputs.clear()
    for index, layer in enumerate(layers):

        def record_output(
            _: torch.nn.Module, __: object, output: torch.Tensor | tuple[torch.Tensor, ...], index: int = index
        ) -> None:
            outputs[index] = output[0] if isinstance(output, tuple) else output

        hooks.callback(layer.register_forward_hook(record_output).remove)


def _select_real_tokens(states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the states (tokens, units) of the real tokens of a padded or a flat batch, in the order of a flat one."""
    total = int(attention_mask.sum())
    if states.shape[:2] == attention_mask.shape:
        states = flatten_states(states, attention_mask, total)
    return states[0, :total]


@contextlib.contextmanager
def attach_teacher(
    model: "PreTrainedModel", teacher_path: Path | None, rule: Distill | None
) -> Iterator[HiddenStates | None]:
    """Attach a teacher's hidden states to the model for the duration of the block; None if the recipe uses none.

    Args:
        model: the student.
        teacher_path: the teacher's bundle, or a base model.
        rule: the recipe's `distill`.
    Raises:
        ConfigError: the teacher cannot be read, or lacks a layer that the recipe names.
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


def load_encoder(model_path: Path) -> "PreTrainedModel":
    """Load the encoder of a bundle, or of a base model.

    Raises:
        ConfigError: it cannot be read.
    """
    from transformers import AutoModel

    try:
        if (model_path / "evertune.json").is_file():
            # In fp32: the training loop applies autocast.
            return bundle.load_predictor(model_path, "fp32").model.base_model
        return AutoModel.from_pretrained(str(model_path), dtype=torch.float32, trust_remote_code=False)
    except (TrainingError, OSError, ValueError) as error:
        raise ConfigError(f"training.distill.teacher: {str(error).splitlines()[0]}") from error


def _pair_layers(
    model: "PreTrainedModel", teacher: "PreTrainedModel", rule: Distill
) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
    """Return pairs (layer of the student, layer of the teacher).

    Raises:
        ConfigError: a layer does not exist.
    """
    student_layers = student.find_stack(model, "training.distill.hidden")[1]
    teacher_layers = student.find_stack(teacher, "training.distill.hidden")[1]
    if len(student_layers) > len(teacher_layers) and not rule.layers:
        raise ConfigError(
            f"training.distill.hidden: the student has {len(student_layers)} layers, its teacher "
            f"{len(teacher_layers)}; name pairs of layers in training.distill.layers"
        )
    layer_numbers = rule.layers
    if not layer_numbers:
        chosen = student.choose_layers(len(teacher_layers), len(student_layers))
        layer_numbers = {index + 1: layer + 1 for index, layer in enumerate(chosen)}
    if max(layer_numbers) > len(student_layers) or max(layer_numbers.values()) > len(teacher_layers):
        raise ConfigError(
            f"training.distill.layers: the student has {len(student_layers)} layers, its teacher "
            f"{len(teacher_layers)}; layers are numbered from 1"
        )
    return [
        (student_layers[student_number - 1], teacher_layers[teacher_number - 1])
        for student_number, teacher_number in sorted(layer_numbers.items())
    ]
