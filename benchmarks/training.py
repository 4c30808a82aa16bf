"""How fast four loops train, side by side in one process, alternating; and what each needs of memory."""

import functools
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.command import machine
from benchmarks.training_loops import LOOPS, Clock, tuned
from benchmarks.training_sets import BATCHES, SETTINGS, Prepared, prepared

RESULTS = Path(__file__).with_name("results.json")
ROUNDS = 5
STEPS = {"a": 6, "b": 14, "c": 20, "d": 26}  # of a round, about as long for each
SKIPPED = 2  # steps of a round before the caches are warm; kernels for new shapes are made in some of all others too
MOST = 16_384  # tokens of a batch that is tried for loop (c)
PEAK = 2048  # side of the square matrices whose product gives the machine's peak


def measure(names: tuple[str, ...] = tuple(SETTINGS)) -> dict[str, Any]:
    """Medians over the rounds, by data set and loop; written to results.json as soon as a data set is done."""
    for name in names:
        found = _measured(name)
        kept = json.loads(RESULTS.read_text(encoding="utf-8"))
        kept["training"] = {**kept.get("training", {}), "machine": machine(), name: found}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return dict(kept["training"])


def _measured(name: str) -> dict[str, Any]:
    data = prepared(name)
    flops = operations(data)
    gc.collect()
    gc.freeze()  # as the command line does: else the collector looks through all examples within the steps
    rounds: dict[str, list[dict[str, float]]] = {loop: [] for loop in LOOPS}
    peaks = {"bf16": 0.0, "fp32": 0.0}
    for seed in range(ROUNDS):
        for loop, train in LOOPS.items():
            rounds[loop].append(_burst(functools.partial(train, data, seed, STEPS[loop]), flops))
            peaks = {kind: max(best, peak(kind)) for kind, best in peaks.items()}
            sys.stderr.write(f"{name} {loop}: {rounds[loop][-1]['tokens']:,.0f} real tokens/s\n")
    mean = statistics.mean(data.train.lengths)
    found = {loop: _medians(runs, mean, peaks) for loop, runs in rounds.items()}
    for loop in found:
        found[loop]["peak memory, MB"] = _memory(name, loop)
    ratios = {f"d/{loop}": found["d"]["tokens"] / found[loop]["tokens"] for loop in "abc"}
    return {
        "loops": found,
        "ratios": ratios,
        "peak": peaks,
        "mean tokens of a row": mean,
        "search": _search(data, flops),
    }


def _medians(runs: list[dict[str, float]], mean: float, peaks: dict[str, float]) -> dict[str, float]:
    middle = {name: statistics.median(run[name] for run in runs) for name in ("tokens", "flops")}
    # Rows of a round may be longer or shorter than most: rows a second are taken from tokens a second.
    return {**middle, "rows": middle["tokens"] / mean, "share of bf16 peak": middle["flops"] / peaks["bf16"]}


def _burst(train: Callable[..., Any], flops: Callable[[int], float]) -> dict[str, float]:
    clock = Clock()
    train(clock=clock)
    return clock.speed(flops, SKIPPED)


def _search(data: Prepared, flops: Callable[[int], float]) -> dict[str, float]:
    """Real tokens a second of loop (c) by batch size: the best is frozen in training_sets.py."""
    mean = statistics.mean(data.train.lengths)
    found: dict[int, list[float]] = {size: [] for size in BATCHES if size * mean <= MOST}
    for seed in range(3):
        for size in found:
            run = _burst(functools.partial(tuned, data, seed, max(6, 256 // size), batch=size), flops)
            found[size].append(run["tokens"])
    return {str(size): statistics.median(values) for size, values in found.items()}


def operations(data: Prepared) -> Callable[[int], float]:
    """Floating-point operations of a row's forward and backward pass, for real tokens only.

    Two a weight and token and twice that backwards (Kaplan et al. 2020, section 2.1), those of the attention's
    products, none for embeddings, norms and activations.
    """
    config = data.model(0).config
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    token = 2 * (4 * width * width + 2 * width * inner)
    return lambda length: 3.0 * layers * (token * length + 4 * width * length * length)


def peak(kind: str) -> float:
    """Floating-point operations a second of the best of five large matrix products."""
    import torch

    matrix = torch.ones(PEAK, PEAK, dtype={"bf16": torch.bfloat16, "fp32": torch.float32}[kind])
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        best = max(best, 2 * PEAK**3 / (time.perf_counter() - start))
    return best


def _memory(name: str, loop: str) -> float:
    """Peak resident memory of a process that does nothing but this loop."""
    command = [sys.executable, "-m", "benchmarks.training", name, loop]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    LOOPS[sys.argv[2]](prepared(sys.argv[1]), 0, STEPS[sys.argv[2]], Clock())
    # Not `getrusage`: what that gives begins with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text()
    sys.stdout.write(str(int(status.partition("VmHWM:")[2].split()[0]) / 1024))
