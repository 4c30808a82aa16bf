"""Compute a batch in as many pieces as fit in memory, or as are fastest; the result stays the same."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from evertune.errors import ConfigError, SettingsError, TrainingError
from evertune.runtime.files import read_json, write_json
from evertune.training.distributed import process_group

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from evertune.config import Training

logger = logging.getLogger(__name__)
Batch = Mapping[str, torch.Tensor]
Compute = Callable[[Batch], torch.Tensor]  # forward and backward pass of a piece; returns its share of the loss
TRIED = (1, 2, 4, 8)  # numbers of pieces that are timed


class MicroBatches:
    """Splits batches into pieces, and into more pieces when memory runs out.

    The loss is divided by the rows or words of the whole optimiser step, so the gradients of the pieces add up to the
    gradient of the batch. When memory runs out, the gradients of the step so far are discarded and computed again.

    Args:
        count: pieces of a batch; None for the fastest number, measured on the first batch.
        remember: called with the number when it was measured or raised.
        whole: never split a batch.
    """

    def __init__(self, count: int | None, remember: Callable[[int], None], whole: bool = False) -> None:
        self._count = count
        self._remember = remember
        self._whole = whole
        self._step: list[
            tuple[Batch, torch.Tensor]
        ] = []  # batches of the optimiser step so far, with the generator's state before each

    def run_batch(self, batch: Batch, compute: Compute, model: torch.nn.Module) -> torch.Tensor:
        """Return the loss of a batch, and add its gradients to those of the optimiser step so far.

        Raises:
            TrainingError: there is not enough memory for a single row, or for a batch that cannot be split.
            RuntimeError: memory ran out in one of several processes, while the others wait for its gradients.
        """
        if next(parameter for parameter in model.parameters() if parameter.requires_grad).grad is None:
            self._step.clear()
        if self._count is None:
            self._count = find_fastest(batch, compute, model)
            self._remember(self._count)
        self._step.append((batch, torch.get_rng_state()))
        loss = self._try_batch(batch, compute, self._count)
        if loss is None and self._whole:
            raise SettingsError(
                "out of memory: each row's loss depends on the whole batch, so no part of it can be computed alone; "
                "lower training.tokens_per_batch, which changes the result, or free some memory"
            )
        while loss is None:
            self._count *= 2
            logger.warning("out of memory: each batch is computed in %d pieces from now on", self._count)
            model.zero_grad()
            loss = self._recompute_step(compute, self._count)
            if loss is not None:
                self._remember(self._count)
        return loss

    def _recompute_step(self, compute: Compute, count: int) -> torch.Tensor | None:
        """Compute all batches of the step again, and return the loss of the last one; None if memory ran out."""
        if count >= 2 * max(count_rows(batch) for batch, _ in self._step):
            raise TrainingError("out of memory with a single row; lower objective.max_length, or free some memory")
        loss = None
        for batch, state in self._step:
            torch.set_rng_state(state)
            loss = self._try_batch(batch, compute, count)
            if loss is None:
                break
        return loss

    def _try_batch(self, batch: Batch, compute: Compute, count: int) -> torch.Tensor | None:
        """Return the loss; None if memory ran out."""
        try:
            return cast(torch.Tensor, sum(compute(piece) for piece in split_batch(batch, count)))
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error) or process_group.get_world_size() > 1:
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


def plan_micro_batches(
    model: "PreTrainedModel", settings: "Training", precision: str, memory: Path, coupled: bool = False
) -> MicroBatches:
    """Return how to split batches, with the number of pieces measured earlier on this machine for this model and size.

    Args:
        model: to train.
        settings: the recipe's training section.
        precision: `bf16` or `fp32`.
        memory: JSON file with this machine's measurements.
        coupled: whether a row's loss depends on the other rows of its batch.
    Raises:
        ConfigError: several processes would each compute a part of a batch that cannot be split.
    """
    if coupled or _has_batch_norm(model):
        if process_group.get_world_size() > 1:
            raise ConfigError(
                "training.processes: this model learns from a batch as a whole, which cannot be divided; set it to 1"
            )
        return MicroBatches(1, lambda _: None, whole=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    size = f"{model.num_parameters()} parameters, {settings.budget} x {settings.accumulation} tokens"
    name = f"pieces: torch {torch.__version__} {device}, {precision}, {size}"
    auto = settings.tokens_per_batch == "auto"
    known_count: int | None = 1
    if auto and process_group.get_world_size() == 1:  # several processes must run equally many backward passes
        known_count = (read_json(memory) or {}).get(name)

    def remember(count: int) -> None:
        if auto:
            logger.info("a batch is computed in %d pieces", count)
            write_json(memory, {**(read_json(memory) or {}), name: count})

    return MicroBatches(known_count, remember)


def _has_batch_norm(model: torch.nn.Module) -> bool:
    """Whether a layer computes mean and variance over its batch."""
    kinds = torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d
    return any(isinstance(layer, kinds) for layer in model.modules())


def count_rows(batch: Batch) -> int:
    """Return the number of rows of a batch."""
    return len(next(iter(batch.values())))


def split_batch(batch: Batch, count: int) -> Iterator[Batch]:
    """Split a batch into at most `count` pieces with about the same number of rows."""
    for indices in torch.arange(count_rows(batch)).chunk(count):
        yield {name: value[indices[0] : indices[-1] + 1] for name, value in batch.items()}


def lacks_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; torch has no single class for that."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def find_fastest(batch: Batch, compute: Compute, model: torch.nn.Module) -> int:
    """Return the number of pieces in which this batch is fastest; leaves torch's generator and gradients unchanged.

    Raises:
        TrainingError: there is not enough memory for an eighth of the batch.
    """
    seconds: dict[int, float] = {}
    with torch.random.fork_rng():
        for count in TRIED:
            duration = min(_time_step(batch, count, compute, model) for _ in range(2))
            if duration > min(seconds.values(), default=duration):
                break  # more pieces are only slower
            if duration < float("inf"):
                seconds[count] = duration
    if not seconds:
        raise TrainingError("out of memory with training.tokens_per_batch: auto; set a number instead")
    return min(seconds, key=seconds.__getitem__)


def _time_step(batch: Batch, count: int, compute: Compute, model: torch.nn.Module) -> float:
    """Return the seconds of a step; infinity if memory ran out."""
    start = time.perf_counter()
    try:
        for piece in split_batch(batch, count):
            float(compute(piece))  # waits for the device
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        return float("inf")
    finally:
        model.zero_grad()
    return time.perf_counter() - start
