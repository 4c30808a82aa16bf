"""What a model costs to serve, beside the champion: size, memory and time."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from evertune.serving import bundle

SAMPLE = 32  # test rows that are predicted at a time
PAIRS = 7  # both models predict the sample in turn, at most so often
BUDGET = 1.0  # seconds after which no further pair begins


class Usage(TypedDict):
    """What one model takes.

    Args:
        bytes: of the bundle's files.
        memory: bytes of the weights in memory.
        seconds: for a row: processor time, or time by the clock on a GPU; the median.
        training: seconds that its training took; None where that is not known.
    """

    bytes: int
    memory: int
    seconds: float
    training: float | None


class Resources(TypedDict):
    """What both models take, and how many times as much as the champion the challenger does.

    Args:
        rows: number of rows that were predicted at a time.
        pairs: how often both models predicted them.
        clock: what the time is: `processor` or `wall`.
        challenger, champion: each model's usage.
        ratios: `size`, `memory`, `latency` and `training` of the challenger over the champion's; empty without one.
    """

    rows: int
    pairs: int
    clock: str
    challenger: Usage
    champion: Usage | None
    ratios: dict[str, float]


def measure_resources(
    challenger: Path,
    champion: Path | None,
    inputs: Sequence[Any],
    training_seconds: tuple[float | None, float | None] = (None, None),
) -> Resources:
    """Return what challenger and champion take to predict rows like these.

    Both predict the same rows in turn, so that a busy machine slows both alike; the ratio is the median of the pairs'.

    Args:
        challenger: its bundle.
        champion: its bundle; None without a champion.
        inputs: of test rows.
        training_seconds: of challenger and champion, where they are known.
    Raises:
        TrainingError: a bundle cannot be loaded.
    """
    step = max(1, len(inputs) // SAMPLE)
    rows = list(inputs[::step][:SAMPLE])
    folders = {"challenger": challenger} | ({} if champion is None else {"champion": champion})
    predictors = {name: bundle.load_predictor(folder) for name, folder in folders.items()}
    clock, now = _choose_clock()
    seconds = _time_in_turn(predictors, rows, now)
    trained = dict(zip(("challenger", "champion"), training_seconds, strict=True))
    usages: dict[str, Usage] = {
        name: {
            "bytes": sum(file.stat().st_size for file in folders[name].rglob("*") if file.is_file()),
            "memory": _count_weight_bytes(predictor),
            "seconds": statistics.median(seconds[name]) / len(rows),
            "training": trained[name],
        }
        for name, predictor in predictors.items()
    }
    return {
        "rows": len(rows),
        "pairs": len(seconds["challenger"]),
        "clock": clock,
        "challenger": usages["challenger"],
        "champion": usages.get("champion"),
        "ratios": _compare_usages(usages, seconds),
    }


def _choose_clock() -> tuple[str, Callable[[], float]]:
    """Return the clock that other jobs disturb least: processor time, but on a GPU the time by the clock."""
    import torch

    if not torch.cuda.is_available():
        return "processor", time.process_time

    def read_clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return "wall", read_clock


def _time_in_turn(predictors: dict[str, Any], rows: list[Any], now: Callable[[], float]) -> dict[str, list[float]]:
    """Return the seconds of each prediction of the rows, by model; the first one of each model does not count."""
    end = time.perf_counter() + BUDGET
    for predictor in predictors.values():
        predictor.predict(rows)
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(PAIRS):
        for name, predictor in predictors.items():
            start = now()
            predictor.predict(rows)
            seconds[name].append(now() - start)
        if time.perf_counter() > end:
            break
    return seconds


def _count_weight_bytes(predictor: Any) -> int:
    """Return the bytes of all weights; compressed models may keep them where only their state shows them."""
    tensors = {id(tensor): tensor for tensor in (*predictor.model.parameters(), *predictor.model.buffers())}
    if not tensors:
        tensors = {id(value): value for value in predictor.model.state_dict().values() if hasattr(value, "numel")}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _compare_usages(usages: dict[str, Usage], seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return the challenger's usage over the champion's; without what is not known of both."""
    if "champion" not in usages:
        return {}
    new = usages["challenger"]
    old = usages["champion"]
    pairs = zip(seconds["challenger"], seconds["champion"], strict=True)
    ratios = {
        "size": _divide(new["bytes"], old["bytes"]),
        "memory": _divide(new["memory"], old["memory"]),
        "latency": statistics.median(_divide(challenger, champion) for challenger, champion in pairs),
        "training": _divide(new["training"], old["training"]),
    }
    return {name: ratio for name, ratio in ratios.items() if math.isfinite(ratio)}


def _divide(new: float | None, old: float | None) -> float:
    """Return the ratio; NaN where it is not known."""
    return new / old if new and old else math.nan
