"""How fast four loops train, side by side in one process, alternating; and what each needs of memory."""

import functools
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import describe_machine
from benchmarks.training.loops import LOOPS, Clock, pick_device, train_tuned
from benchmarks.training.rows import BATCHES, SETTINGS, Prepared, prepare_rows

RESULTS = Path(__file__).parents[1] / "results.json"
ROUNDS = 5
STEPS = {"a": 6, "b": 14, "c": 20, "d": 26}  # of a round, about as long for each
SKIPPED = 2  # steps of a round before the caches are warm; kernels for new shapes are made in some of all others too
ENCODERS = ("bert",)  # what is measured here and sees all of a row at once
MOST = 16_384  # tokens of a batch that is tried for loop (c)
PEAK = {"cpu": 2048, "cuda": 8192}  # side of the square matrices whose product gives the machine's peak


def measure(names: tuple[str, ...] = tuple(SETTINGS)) -> dict[str, Any]:
    """Medians over the rounds, by data set and loop; written to results.json as soon as a data set is done."""
    for name in names:
        measured = _measure_set(name)
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
        results["training"] = {**results.get("training", {}), "machine": describe_machine(), name: measured}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return dict(results["training"])


def _measure_set(name: str) -> dict[str, Any]:
    data = prepare_rows(name)
    flops = count_operations(data.build_model(0))
    gc.collect()
    gc.freeze()  # as the command line does: else the collector looks through all examples within the steps
    rounds: dict[str, list[dict[str, float]]] = {loop: [] for loop in LOOPS}
    peaks = {"bf16": 0.0, "fp32": 0.0}
    for seed in range(ROUNDS):
        for loop, train in LOOPS.items():
            rounds[loop].append(time_training(functools.partial(train, data, seed, STEPS[loop]), flops, SKIPPED))
            peaks = {kind: max(best, measure_peak(kind)) for kind, best in peaks.items()}
            sys.stderr.write(f"{name} {loop}: {rounds[loop][-1]['tokens']:,.0f} real tokens/s\n")
    mean = statistics.mean(data.train.lengths)
    speeds = {loop: summarize_rounds(runs, mean, peaks["bf16"]) for loop, runs in rounds.items()}
    for loop in speeds:
        speeds[loop]["peak memory, MB"] = _measure_memory(name, loop)
    ratios = {f"d/{loop}": speeds["d"]["tokens"] / speeds[loop]["tokens"] for loop in "abc"}
    return {
        "loops": speeds,
        "ratios": ratios,
        "peak": peaks,
        "mean tokens of a row": mean,
        "search": search_batch_size(data, flops, BATCHES, MOST),
    }


def summarize_rounds(runs: list[dict[str, float]], mean: float, peak: float) -> dict[str, float]:
    """Of a loop's rounds.

    Args:
        mean: tokens of a row; peak: operations a second of the bf16 matrix product.
    """
    middle = {name: statistics.median(run[name] for run in runs) for name in ("tokens", "flops")}
    # Rows of a round may be longer or shorter than most: rows a second are taken from tokens a second.
    return {**middle, "rows": middle["tokens"] / mean, "share of bf16 peak": middle["flops"] / peak}


def time_training(train: Callable[..., Any], flops: Callable[[int], float], skipped: int) -> dict[str, float]:
    """The speed of a training, once its first steps are done."""
    clock = Clock()
    train(clock=clock)
    return clock.measure_speed(flops, skipped)


def search_batch_size(
    data: Prepared, flops: Callable[[int], float], sizes: Sequence[int], token_limit: int, rounds: int = 3
) -> dict[str, float]:
    """Real tokens a second of loop (c) by batch size; for the CPU the best is frozen in training_sets.py.

    Args:
        sizes: rows; most: tokens of a batch.
    """
    mean = statistics.mean(data.train.lengths)
    speeds: dict[int, list[float]] = {size: [] for size in sizes if size * mean <= token_limit}
    for seed in range(rounds):
        for size in speeds:
            run = time_training(
                functools.partial(train_tuned, data, seed, max(6, 256 // size), batch=size), flops, SKIPPED
            )
            speeds[size].append(run["tokens"])
    return {str(size): statistics.median(values) for size, values in speeds.items()}


def count_operations(model: Any) -> Callable[[int], float]:
    """Floating-point operations of a row's forward and backward pass, for real tokens only.

    Two a weight of the layers and token, as many backwards for what comes in and again for a weight that learns (Kaplan
    et al. 2020, section 2.1); those of the attention's products, half of them where no token sees those behind it; none
    for embeddings, heads, norms and activations.
    """
    import torch

    base = model.base_model
    config = model.config
    stack = max((part for part in base.modules() if isinstance(part, torch.nn.ModuleList)), key=len)
    weights = [layer.weight for layer in stack.modules() if isinstance(layer, torch.nn.Linear)]
    every, free = (sum(weight.numel() for weight in group) for group in (weights, filter(_is_trainable, weights)))
    seen_share = 1.0 if config.model_type in ENCODERS else 0.5
    pairs = 3 * 4 * config.hidden_size * config.num_hidden_layers * seen_share
    return lambda length: (4.0 * every + 2.0 * free) * length + pairs * length * length


def _is_trainable(weight: Any) -> bool:
    return bool(weight.requires_grad)


def measure_peak(kind: str) -> float:
    """Floating-point operations a second of the best of five large matrix products."""
    import torch

    device_name = pick_device()
    side = PEAK[pick_device()]
    matrix = torch.ones(side, side, dtype={"bf16": torch.bfloat16, "fp32": torch.float32}[kind], device=device_name)
    wait = torch.cuda.synchronize if device_name == "cuda" else lambda: None
    best = 0.0
    for _ in range(5):
        wait()
        start = time.perf_counter()
        matrix @ matrix
        wait()
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def _measure_memory(name: str, loop: str) -> float:
    """Peak resident memory of a process that does nothing but this loop."""
    command = [sys.executable, "-m", "benchmarks.training.run", name, loop]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    LOOPS[sys.argv[2]](prepare_rows(sys.argv[1]), 0, STEPS[sys.argv[2]], Clock())
    # Not `getrusage`: what that gives begins with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text()
    sys.stdout.write(str(int(status.partition("VmHWM:")[2].split()[0]) / 1024))
