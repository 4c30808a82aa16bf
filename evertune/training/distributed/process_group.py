"""What the processes of one training share: the rows of each step and of the validation, and what rank 0 decides.

In a training of one process all of it is what it would be without.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed
from transformers import TrainerCallback

T = TypeVar("T")
IGNORED = -100  # the label id that no loss looks at


def get_rank() -> int:
    """This process's number among those that train together; 0 is the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def get_world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def all_gather(value: T) -> list[T]:
    """Every process's value, in the order of ranks: what is computed from it is the same in all."""
    values = [value] * get_world_size()
    if get_world_size() > 1:
        distributed.all_gather_object(values, value)
    return values


def broadcast_from_rank0(compute: Callable[[], T]) -> T:
    """What rank 0 finds; the others wait for it and do not look."""
    values = [compute() if get_rank() == 0 else None]
    if get_world_size() > 1:
        distributed.broadcast_object_list(values)
    return values[0]  # type: ignore[return-value]


def barrier() -> None:
    """Wait until every process has come here."""
    all_gather(None)


def partition_by_tokens(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """Places of `lengths` in as many parts as there are hands, with about as many tokens in each.

    The longest first, each to the hand that has the fewest tokens (LPT; Graham 1969, Bounds on Multiprocessing Timing
    Anomalies).
    """
    parts: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for index in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        part_index = loads.index(min(loads))
        parts[part_index].append(index)
        loads[part_index] += lengths[index]
    return [sorted(part) for part in parts]


def own_indices(examples: Sequence[Any]) -> list[int]:
    """Places of this process's part of the examples."""
    return partition_by_tokens([len(example["input_ids"]) for example in examples], get_world_size())[get_rank()]


def collate_own_part(collate: Callable[[list[Any]], dict[str, Any]]) -> Callable[[list[Any]], dict[str, Any]]:
    """A `collate` that is given the batch of all processes and makes this one's part of it."""

    def collate_part(batch: list[Any]) -> dict[str, Any]:
        if get_world_size() == 1:
            return collate(batch)
        if indices := own_indices(batch):
            return collate([batch[index] for index in indices])
        # Fewer rows than processes. All must take part in the gradients' sum: a row whose labels do not count.
        collated = collate([min(batch, key=lambda example: len(example["input_ids"]))])
        return {**collated, "labels": torch.full_like(collated["labels"], IGNORED)}

    return collate_part


class OwnDraws(TrainerCallback):
    """Dropout and masking that differ between processes, and after a resume.

    Where the checkpoint holds a generator's state for this process, the Trainer puts that in its place afterwards. It
    holds none where it was written by fewer processes, or by one instead of several.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        import numpy as np

        if get_rank() or state.global_step:
            torch.manual_seed(
                int(np.random.SeedSequence([self._seed, get_rank(), state.global_step]).generate_state(1)[0])
            )
