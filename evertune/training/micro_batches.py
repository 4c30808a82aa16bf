"""A batch is computed in as many pieces as fit memory, or as are fastest; what is learned stays the same."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evertune.errors import ConfigError, SettingsError, TrainingError
from evertune.runtime.files import read_json, write_json
from evertune.training.distributed import process_group

if TYPE_CHECKING:
    from evertune.config import Training

logger = logging.getLogger(__name__)
Batch = Mapping[str, Any]
Compute = Callable[[Batch], Any]  # forward and back of a piece; gives its share of the loss
TRIED = (1, 2, 4, 8)


class MicroBatches:
    """Splits batches, and splits them finer when memory runs out.

    The loss is divided by the rows or words of the whole optimiser step, so the gradients of the pieces add up to that
    of the batch. When memory runs out, the gradients of the step so far are thrown away and computed again.

    Args:
        count: pieces of a batch; None for what is fastest with the first one.
        found: called with the number, when it was not known or not enough.
        whole: a batch is never split.
    """

    def __init__(self, count: int | None, remember: Callable[[int], None], whole: bool = False) -> None:
        self._count = count
        self._remember = remember
        self._whole = whole
        self._step: list[tuple[Batch, Any]] = []  # batches of the optimiser step so far, with torch's state before each

    def run_batch(self, batch: Batch, compute: Compute, model: Any) -> Any:
        """The loss of a batch, whose gradients are added to those that the optimiser step has so far.

        Raises:
            TrainingError: there is not memory for a single row, or for a batch that is not to be split.
            RuntimeError: memory ran out in one of several processes: the others wait for its gradients.
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
                "out of memory: each row's loss looks at the whole batch, so no part of it can be computed alone; "
                "lower training.tokens_per_batch, which changes what is learned, or free some memory"
            )
        while loss is None:
            self._count *= 2
            logger.warning("out of memory: each batch is computed in %d pieces from now on", self._count)
            model.zero_grad()
            loss = self._recompute_step(compute, self._count)
            if loss is not None:
                self._remember(self._count)
        return loss

    def _recompute_step(self, compute: Compute, count: int) -> Any:
        """The loss of the step's last batch, with all of the step computed anew; None where memory ran out."""
        if count >= 2 * max(count_rows(batch) for batch, _ in self._step):
            raise TrainingError("out of memory with a single row; lower objective.max_length, or free some memory")
        loss = None
        for batch, state in self._step:
            torch.set_rng_state(state)
            loss = self._try_batch(batch, compute, count)
            if loss is None:
                break
        return loss

    def _try_batch(self, batch: Batch, compute: Compute, count: int) -> Any:
        """The loss; None where memory ran out."""
        try:
            return sum(compute(piece) for piece in split_batch(batch, count))
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error) or process_group.get_world_size() > 1:
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


def plan_micro_batches(
    model: Any, settings: "Training", precision: str, memory: Path, coupled: bool = False
) -> MicroBatches:
    """The pieces that were found here before for a model and batches of this size, or none found yet.

    Args:
        memory: JSON file in which the finding is remembered.
        coupled: a row's loss depends on the other rows of its batch.
    Raises:
        ConfigError: several processes would each compute a part of a batch that must be whole.
    """
    if coupled or _has_batch_norm(model):
        if process_group.get_world_size() > 1:
            raise ConfigError(
                "training.processes: this model learns from a batch as a whole, which no process has; set it to 1"
            )
        return MicroBatches(1, lambda _: None, whole=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    size = f"{model.num_parameters()} parameters, {settings.budget} x {settings.accumulation} tokens"
    name = f"pieces: torch {torch.__version__} {device}, {precision}, {size}"
    auto = settings.tokens_per_batch == "auto"
    # Several processes must all go back as often: each takes its part of a batch as it is.
    count_before: int | None = (
        (read_json(memory) or {}).get(name) if auto and process_group.get_world_size() == 1 else 1
    )

    def remember(count: int) -> None:
        if auto:
            logger.info("a batch is computed in %d pieces", count)
            write_json(memory, {**(read_json(memory) or {}), name: count})

    return MicroBatches(count_before, remember)


def _has_batch_norm(model: Any) -> bool:
    """Whether a layer takes mean and variance from its batch."""
    kinds = torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d
    return any(isinstance(layer, kinds) for layer in model.modules())


def count_rows(batch: Batch) -> int:
    """Rows of a batch."""
    return len(next(iter(batch.values())))


def split_batch(batch: Batch, count: int) -> Iterator[Batch]:
    """The batch in at most `count` pieces of about as many rows."""
    for indices in torch.arange(count_rows(batch)).chunk(count):
        yield {name: value[indices[0] : indices[-1] + 1] for name, value in batch.items()}


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch has no one class for that."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def find_fastest(batch: Batch, compute: Compute, model: Any) -> int:
    """The number of pieces in which this batch takes the least time; leaves torch's generator as it was, no gradients.

    Raises:
        TrainingError: there is not memory for an eighth of the batch.
    """
    seconds: dict[int, float] = {}
    with torch.random.fork_rng():
        for count in TRIED:
            duration = min(_time_step(batch, count, compute, model) for _ in range(2))
            if duration > min(seconds.values(), default=duration):
                break  # smaller pieces only get slower
            if duration < float("inf"):
                seconds[count] = duration
    if not seconds:
        raise TrainingError("out of memory with training.tokens_per_batch: auto; give a smaller number")
    return min(seconds, key=seconds.__getitem__)


def _time_step(batch: Batch, count: int, compute: Compute, model: Any) -> float:
    """Seconds of a step; infinity where memory ran out."""
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
