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


def rank() -> int:
    """This process's number among those that train together; 0 is the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def together(value: T) -> list[T]:
    """Every process's value, in the order of ranks: what is computed from it is the same in all."""
    values = [value] * world()
    if world() > 1:
        distributed.all_gather_object(values, value)
    return values


def told(find: Callable[[], T]) -> T:
    """What rank 0 finds; the others wait for it and do not look."""
    found = [find() if rank() == 0 else None]
    if world() > 1:
        distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]


def all_here() -> None:
    """Wait until every process has come here."""
    together(None)


def deal(lengths: Sequence[int], hands: int) -> list[list[int]]:
    """Places of `lengths` in as many parts as there are hands, with about as many tokens in each.

    The longest first, each to the hand that has the fewest tokens (LPT; Graham 1969, Bounds on Multiprocessing Timing
    Anomalies).
    """
    parts: list[list[int]] = [[] for _ in range(hands)]
    loads = [0] * hands
    for place in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        hand = loads.index(min(loads))
        parts[hand].append(place)
        loads[hand] += lengths[place]
    return [sorted(part) for part in parts]


def own(examples: Sequence[Any]) -> list[int]:
    """Places of this process's part of the examples."""
    return deal([len(one["input_ids"]) for one in examples], world())[rank()]


def dealt(collate: Callable[[list[Any]], dict[str, Any]]) -> Callable[[list[Any]], dict[str, Any]]:
    """A `collate` that is given the batch of all processes and makes this one's part of it."""

    def part(batch: list[Any]) -> dict[str, Any]:
        if world() == 1:
            return collate(batch)
        if mine := own(batch):
            return collate([batch[place] for place in mine])
        # Fewer rows than processes. All must take part in the gradients' sum: a row whose labels do not count.
        made = collate([min(batch, key=lambda one: len(one["input_ids"]))])
        return {**made, "labels": torch.full_like(made["labels"], IGNORED)}

    return part


class OwnDraws(TrainerCallback):
    """Dropout and masking that differ between processes, and after a resume.

    Where the checkpoint holds a generator's state for this process, the Trainer puts that in its place afterwards. It
    holds none where it was written by fewer processes, or by one instead of several.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        import numpy as np

        if rank() or state.global_step:
            torch.manual_seed(int(np.random.SeedSequence([self._seed, rank(), state.global_step]).generate_state(1)[0]))
