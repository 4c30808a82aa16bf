"""Knowledge distillation: a student also learns what a teacher thinks of each row (Hinton et al. 2015).

What the teacher says of a train row is computed once, and remembered beside the checkpoints.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from evertune.errors import ConfigError, TrainingError
from evertune.objectives import module
from evertune.serving import bundle
from evertune.serving.portable.batching import by_length
from evertune.training.distributed.process_group import IGNORED

logger = logging.getLogger(__name__)


class Taught(Sequence[Mapping[str, Any]]):
    """Train rows that know what the teacher says of them.

    Args:
        said: logits for the labels, one line a row, or a word that counts; see `answers`.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], said: Any) -> None:
        self._rows, self._said = rows, said
        self._ends = np.cumsum([np.sum(np.asarray(one["labels"]) != IGNORED) for one in rows])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[Mapping[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> Mapping[str, Any] | list[Mapping[str, Any]]:
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        start = self._ends[place - 1] if place else 0
        return {**self._rows[place], "teacher": self._said[start : self._ends[place]]}


def collated(batch: dict[str, Any], examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The batch with `teacher`, the logits at each label that counts, NaN at all others."""
    if "teacher" not in examples[0]:
        return batch
    lines = torch.from_numpy(np.concatenate([one["teacher"] for one in examples]))
    said = torch.full((*batch["labels"].shape, lines.shape[1]), float("nan"))
    said[batch["labels"] != IGNORED] = lines
    return {**batch, "teacher": said}


def distance(logits: Any, said: Any, temperature: float) -> Any:
    """How far a student is from its teacher, summed over rows or words (Hinton et al. 2015, section 2).

    The divergence of both softened distributions, times the squared temperature: so its gradients keep their size.
    """
    told = ~said.isnan().any(-1)
    student, teacher = logits[told].float() / temperature, said[told] / temperature
    total = torch.nn.functional.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="sum")
    return total * temperature**2


def answers(
    place: Path, examples: Sequence[Mapping[str, Any]], labels: Sequence[str], objective: str, pad_id: int, file: Path
) -> Any:
    """Memory-mapped logits of the teacher for the student's labels, one line a row, or a word that counts.

    -inf stands where the teacher has no such label, NaN where it does not know the row's own.

    Args:
        place: the teacher's bundle.
        examples: the student's train rows.
        file: where they are remembered.
    Raises:
        ConfigError: the teacher cannot be read, or does not fit.
    """
    if not file.exists():
        teacher = _load(place)
        _tuned_for(teacher.card, objective)
        lines = _lines(teacher, examples, torch.tensor(_columns(teacher.names, labels)), pad_id)
        scratch = file.with_suffix(".part.npy")
        np.save(scratch, lines)
        scratch.rename(file)
    return np.load(file, mmap_mode="r+")


def _load(place: Path) -> Any:
    try:
        return bundle.predictor(place)
    except TrainingError as error:
        raise ConfigError(f"training.distill.teacher: {error}") from error


def _tuned_for(card: Mapping[str, Any], objective: str) -> None:
    if card["objective"] != objective:
        raise ConfigError(
            f"training.distill.teacher: it was tuned for {card['objective']}, this recipe for {objective}"
        )


def same_inputs(place: Path, tokenizer: Any, options: Any) -> None:
    """Nothing where the teacher, a bundle or a base model, reads what the student does: its token ids, or its pictures.

    Args:
        options: the student's objective.
    Raises:
        ConfigError: it does not, or cannot be read.
    """
    if hasattr(module(options.type), "tokenizer"):  # of pictures, which have no words
        _same_pictures(place, options)
    else:
        _same_words(place, tokenizer)


def _same_pictures(place: Path, options: Any) -> None:
    try:
        card = bundle.card(place)
    except TrainingError as error:
        raise ConfigError(f"training.distill.teacher: {error}") from error
    _tuned_for(card, options.type)
    if (size := card["options"]["size"]) != options.size:
        raise ConfigError(
            f"training.distill.teacher: it knows pictures of {size} pixels a side, this recipe has {options.size}; set "
            f"objective.size to {size}"
        )


def _same_words(place: Path, tokenizer: Any) -> None:
    from transformers import AutoTokenizer

    inside = place / "model"
    try:
        own = AutoTokenizer.from_pretrained(
            str(inside if (place / "evertune.json").is_file() else place), trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"training.distill.teacher: {place}: {str(error).splitlines()[0]}") from error
    if own.get_vocab() != tokenizer.get_vocab():
        raise ConfigError(
            "training.distill.teacher: its vocabulary is not that of base_model; name a teacher with the same tokenizer"
        )


def _columns(known: Sequence[str], labels: Sequence[str]) -> list[int]:
    """For each label the teacher's output of that name, -1 where it has none."""
    found = [known.index(label) if label in known else -1 for label in labels]
    missing = [label for label, place in zip(labels, found, strict=True) if place < 0]
    if len(labels) - len(missing) < 2:
        raise ConfigError(
            f"training.distill.teacher: it knows fewer than two of the labels {', '.join(list(labels)[:3])}, ...; its "
            f"own are {', '.join(list(known)[:3])}, ...; name a model that was tuned for them"
        )
    if missing:
        logger.warning("the teacher does not know %s: rows of these teach by their label alone", ", ".join(missing))
    return found


def _lines(teacher: Any, examples: Sequence[Mapping[str, Any]], places: Any, pad_id: int) -> Any:
    logger.info("the teacher looks at %d rows, once", len(examples))
    found: list[Any] = [None] * len(examples)
    lengths, device = [len(one["input_ids"]) for one in examples], next(teacher.model.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=teacher.precision == "bf16")
    with torch.inference_mode(), autocast:
        for indices in by_length(lengths, teacher.card["tokens_per_batch"]):
            batch = teacher.objective.collate([examples[index] for index in indices], pad_id)
            labels = batch.pop("labels")
            logits = teacher.model(**{name: value.to(device) for name, value in batch.items()}).logits.float().cpu()
            for index, said, marks in zip(indices, logits, labels, strict=True):
                counted = marks != IGNORED
                found[index] = _renamed(said[counted].reshape(-1, said.shape[-1]), places, marks[counted].flatten())
    return np.concatenate(found)


def _renamed(said: Any, places: Any, marks: Any) -> Any:
    """Logits in the student's order of labels; see `answers`."""
    lines = said[:, places.clamp(min=0)].masked_fill(places < 0, float("-inf"))
    return lines.masked_fill((places[marks] < 0)[:, None], float("nan")).numpy()
