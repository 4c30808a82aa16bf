"""Communication between the processes of one training: their parts of each batch, and decisions of rank 0.

With a single process, every function returns what it would without communication.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from evertune.training.examples import Example

T = TypeVar("T")
IGNORED = -100  # label of a row that no loss may count, see `trainer.step_loss`


def get_rank() -> int:
    """Return the rank of this process; rank 0 writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def get_world_size() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def all_gather(value: T) -> list[T]:
    """Return every process's value, in the order of ranks."""
    values = [value] * get_world_size()
    if get_world_size() > 1:
        distributed.all_gather_object(values, value)
    return values


def broadcast_from_rank0(compute: Callable[[], T]) -> T:
    """Return what rank 0 computes; the other processes wait for it."""
    values = [compute() if get_rank() == 0 else None]
    if get_world_size() > 1:
        distributed.broadcast_object_list(values)
    return values[0]  # type: ignore[return-value]


def barrier() -> None:
    """Wait until every process has reached this point."""
    all_gather(None)


def partition_by_tokens(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """Partition the indices of rows into one part a process, with about as many tokens in each.

    Longest row first, each to the process with the fewest tokens (LPT; Graham 1969, Bounds on Multiprocessing Timing
    Anomalies).

    Args:
        lengths: (rows,) tokens of each row.
        processes: number of parts.
    """
    parts: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for index in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        part_index = loads.index(min(loads))
        parts[part_index].append(index)
        loads[part_index] += lengths[index]
    return [sorted(part) for part in parts]


def own_indices(examples: "Sequence[Example]") -> list[int]:
    """Return the indices of this process's part of the examples."""
    lengths = [len(example["input_ids"]) for example in examples]
    return partition_by_tokens(lengths, get_world_size())[get_rank()]


def collate_own_part(
    collate: "Callable[[list[Example]], dict[str, torch.Tensor]]",
) -> "Callable[[list[Example]], dict[str, torch.Tensor]]":
    """Wrap `collate` so that it takes the batch of all processes and collates this process's part of it."""

    def collate_part(batch: "list[Example]") -> dict[str, torch.Tensor]:
        if get_world_size() == 1:
            return collate(batch)
        indices = own_indices(batch)
        if indices:
            return collate([batch[index] for index in indices])
        # Fewer rows than processes, but every process must take part in summing gradients: use a row without labels.
        collated = collate([min(batch, key=lambda example: len(example["input_ids"]))])
        return {**collated, "labels": torch.full_like(collated["labels"], IGNORED)}

    return collate_part


class OwnDraws(TrainerCallback):
    """Seed each process differently, so that dropout and masking differ between processes and after a resume.

    If the checkpoint holds the generator's state of this process, the Trainer restores that afterwards. It holds none
    if it was written by fewer processes, or by one instead of several.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        import numpy as np

        if get_rank() or state.global_step:
            sequence = np.random.SeedSequence([self._seed, get_rank(), state.global_step])
            torch.manual_seed(int(sequence.generate_state(1)[0]))
