"""Knowledge distillation: a student also learns the teacher's logits of each row (Hinton et al. 2015).

The teacher's logits of the train rows are computed once, and kept with the checkpoints.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, overload

import numpy as np
import numpy.typing as npt
import torch

from evertune.errors import ConfigError, TrainingError
from evertune.objectives import load_objective
from evertune.serving import bundle
from evertune.serving.portable.batching import by_length
from evertune.training.distributed.process_group import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from evertune.objectives import Options
    from evertune.objectives.image_classification import Options as ImageOptions
    from evertune.serving.portable.inference import Predictor
    from evertune.training.examples import Example

logger = logging.getLogger(__name__)


class TaughtRows(Sequence["Example"]):
    """Train rows with the teacher's logits.

    Args:
        rows: the train rows.
        teacher_logits: one line for each row, or for each word with a label; see `compute_teacher_logits`.
    """

    def __init__(self, rows: "Sequence[Example]", teacher_logits: npt.NDArray[np.float32]) -> None:
        self._rows = rows
        self._teacher_logits = teacher_logits
        self._ends = np.cumsum([np.sum(np.asarray(row["labels"]) != IGNORED) for row in rows])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> "Example": ...
    @overload
    def __getitem__(self, index: slice) -> "list[Example]": ...
    def __getitem__(self, index: int | slice) -> "Example | list[Example]":
        if isinstance(index, slice):
            return [self[row_index] for row_index in range(len(self))[index]]
        start = self._ends[index - 1] if index else 0
        return {**self._rows[index], "teacher": self._teacher_logits[start : self._ends[index]]}


def add_teacher_logits(batch: dict[str, torch.Tensor], examples: "Sequence[Example]") -> dict[str, torch.Tensor]:
    """Return the batch with `teacher`: the teacher's logits at each label, NaN at ignored labels."""
    if "teacher" not in examples[0]:
        return batch
    lines = torch.from_numpy(np.concatenate([example["teacher"] for example in examples]))
    teacher_logits = torch.full((*batch["labels"].shape, lines.shape[1]), float("nan"))
    teacher_logits[batch["labels"] != IGNORED] = lines
    return {**batch, "teacher": teacher_logits}


def distillation_loss(student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the distillation loss, summed over rows or words (Hinton et al. 2015, section 2).

    The divergence of both softened distributions, times the squared temperature, which keeps the size of its gradients.

    Args:
        student_logits: (..., labels).
        teacher_logits: (..., labels), NaN where there are none.
        temperature: softens both distributions.
    """
    is_known = ~teacher_logits.isnan().any(-1)
    student = student_logits[is_known].float() / temperature
    teacher = teacher_logits[is_known] / temperature
    total = torch.nn.functional.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="sum")
    return total * temperature**2


def compute_teacher_logits(
    teacher_path: Path,
    examples: "Sequence[Example]",
    labels: Sequence[str],
    objective: str,
    pad_id: int,
    file: Path,
) -> npt.NDArray[np.float32]:
    """Return the teacher's logits for the student's labels, memory-mapped, one line for each row or labelled word.

    A logit is -inf if the teacher does not know the label; a line is NaN if it does not know the row's own label.

    Args:
        teacher_path: the teacher's bundle.
        examples: the student's train rows.
        labels: of the student, in order.
        objective: the recipe's objective.
        pad_id: token id of padding.
        file: where the logits are kept.
    Raises:
        ConfigError: the teacher cannot be read, or does not fit.
    """
    if not file.exists():
        teacher = _load_predictor(teacher_path)
        _check_objective(teacher.card, objective)
        logits = _compute_logits(teacher, examples, torch.tensor(_match_labels(teacher.names, labels)), pad_id)
        scratch = file.with_suffix(".part.npy")
        np.save(scratch, logits)
        scratch.rename(file)
    return cast(npt.NDArray[np.float32], np.load(file, mmap_mode="r+"))


def _load_predictor(teacher_path: Path) -> "Predictor":
    try:
        predictor: Predictor = bundle.load_predictor(teacher_path)
        return predictor
    except TrainingError as error:
        raise ConfigError(f"training.distill.teacher: {error}") from error


def _check_objective(card: Mapping[str, object], objective: str) -> None:
    if card["objective"] != objective:
        raise ConfigError(
            f"training.distill.teacher: it was tuned for {card['objective']}, but this recipe is for {objective}; "
            "name a teacher with the same objective"
        )


def check_same_inputs(teacher_path: Path, tokenizer: "PreTrainedTokenizerBase", options: "Options") -> None:
    """Check that the teacher reads the same inputs as the student: the same token ids, or images of the same size.

    Args:
        teacher_path: a bundle or a base model.
        tokenizer: of the student.
        options: of the student's objective.
    Raises:
        ConfigError: its inputs differ, or it cannot be read.
    """
    if load_objective(options.type).has_own_tokenizer:  # an objective for images
        _check_same_pictures(teacher_path, cast("ImageOptions", options))
    else:
        _check_same_vocabulary(teacher_path, tokenizer)


def _check_same_pictures(teacher_path: Path, options: "ImageOptions") -> None:
    try:
        card = bundle.read_card(teacher_path)
    except TrainingError as error:
        raise ConfigError(f"training.distill.teacher: {error}") from error
    _check_objective(card, options.type)
    size = card["options"]["size"]
    if size != options.size:
        raise ConfigError(
            f"training.distill.teacher: it was trained on images of {size} pixels a side, but objective.size is "
            f"{options.size}; set it to {size}"
        )


def _check_same_vocabulary(teacher_path: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    from transformers import AutoTokenizer

    is_bundle = (teacher_path / "evertune.json").is_file()
    model_folder = teacher_path / "model" if is_bundle else teacher_path
    try:
        teacher_tokenizer = AutoTokenizer.from_pretrained(str(model_folder), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"training.distill.teacher: {teacher_path}: {str(error).splitlines()[0]}") from error
    if teacher_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise ConfigError(
            "training.distill.teacher: its vocabulary differs from base_model's; name a teacher with the same tokenizer"
        )


def _match_labels(teacher_labels: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Return the teacher's output for each label; -1 if it does not know the label."""
    columns = [teacher_labels.index(label) if label in teacher_labels else -1 for label in labels]
    missing = [label for label, column in zip(labels, columns, strict=True) if column < 0]
    if len(labels) - len(missing) < 2:
        raise ConfigError(
            f"training.distill.teacher: it knows fewer than two of the labels {', '.join(list(labels)[:3])}, ...; its "
            f"labels are {', '.join(list(teacher_labels)[:3])}, ...; name a teacher that was tuned for your labels"
        )
    if missing:
        logger.warning(
            "the teacher does not know %s: rows with these labels are learned without it", ", ".join(missing)
        )
    return columns


def _compute_logits(
    teacher: "Predictor", examples: "Sequence[Example]", columns: torch.Tensor, pad_id: int
) -> npt.NDArray[np.float32]:
    logger.info("computing the teacher's logits of %d rows", len(examples))
    row_logits: list[npt.NDArray[np.float32] | None] = [None] * len(examples)
    lengths = [len(example["input_ids"]) for example in examples]
    device = next(teacher.model.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=teacher.precision == "bf16")
    with torch.inference_mode(), autocast:
        for indices in by_length(lengths, teacher.card["tokens_per_batch"]):
            batch = teacher.objective.collate([examples[index] for index in indices], pad_id)
            labels = batch.pop("labels")
            logits = teacher.model(**{name: value.to(device) for name, value in batch.items()}).logits.float().cpu()
            for index, logits_of_row, marks in zip(indices, logits, labels, strict=True):
                counted = marks != IGNORED
                row_logits[index] = _reorder_logits(
                    logits_of_row[counted].reshape(-1, logits_of_row.shape[-1]), columns, marks[counted].flatten()
                )
    return np.concatenate(cast(list[npt.NDArray[np.float32]], row_logits))


def _reorder_logits(
    teacher_logits: torch.Tensor, columns: torch.Tensor, label_ids: torch.Tensor
) -> npt.NDArray[np.float32]:
    """Return the logits in the student's order of labels; see `compute_teacher_logits`."""
    lines = teacher_logits[:, columns.clamp(min=0)].masked_fill(columns < 0, float("-inf"))
    return lines.masked_fill((columns[label_ids] < 0)[:, None], float("nan")).numpy()
