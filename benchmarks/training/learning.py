"""What the plain Trainer and Evertune reach after the same epochs: the metric of the official test split, over seeds.

A run takes minutes. Each is written to results.json when it is done, and is not made again while its settings are the
same.
"""

import json
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.command import describe_machine
from benchmarks.training.loops import LOOPS, Clock
from benchmarks.training.rows import SETTINGS, Setting, prepare_rows

SEEDS = (17, 18, 19)
COMPARED = ("b", "d")
RESULTS = Path(__file__).parents[1] / "results.json"


def measure() -> dict[str, Any]:
    """The metric by data set, loop and seed; means, and what (d) has more than (b)."""
    runs = _read_runs()
    for name, setting in SETTINGS.items():
        for seed in SEEDS:
            for loop in COMPARED:
                key = f"{name} {loop} {seed}"
                used = _used_settings(setting, loop)
                if runs.get(key, {}).get("setting") != used:
                    runs[key] = {"setting": used, **_run_loop(name, loop, seed)}
                    _save_runs(runs)
    return summarize_runs(runs)


def summarize_runs(runs: dict[str, Any]) -> dict[str, Any]:
    """The runs, and the means of the data sets of which all are there."""
    complete_sets = [
        name for name in SETTINGS if all(f"{name} {loop} {seed}" in runs for loop in COMPARED for seed in SEEDS)
    ]
    return {
        "machine": describe_machine(),
        "runs": runs,
        "means": {name: _mean_metrics(runs, name) for name in complete_sets},
    }


def _used_settings(setting: Setting, loop: str) -> dict[str, Any]:
    """What a loop's result hangs on: the other's settings may change without it."""
    used = {name: value for name, value in asdict(setting).items() if name not in {"rate", "batch", "tokens"}}
    return used | {"rate": setting.rate[COMPARED.index(loop)], **({"tokens": setting.tokens} if loop == "d" else {})}


def _run_loop(name: str, loop: str, seed: int) -> dict[str, float]:
    data = prepare_rows(name)
    start = time.perf_counter()
    model = LOOPS[loop](data, seed, None, Clock())
    seconds = time.perf_counter() - start
    value = score_model(data, model)
    sys.stderr.write(f"{name} {loop} seed {seed}: {data.setting.metric} {value:.4f} after {seconds:.0f} s\n")
    return {"metric": value, "seconds": seconds}


def score_model(data: Any, model: Any) -> float:
    """The metric of the test rows, computed in fp32 for all loops."""
    from evertune.serving.portable import inference

    conventions = data.objective.find_conventions(data.train.targets)
    predictions, _ = inference.run_model(
        model,
        data.objective,
        data.test.examples,
        data.labels,
        conventions,
        pad_id=data.tokenizer.pad_token_id,
        budget=8192,
        precision="fp32",
    )
    sums = data.objective.compute_statistics(data.test.targets, predictions, data.labels).sum(0, dtype="float64")
    return float(data.objective.compute_metrics(sums, data.labels)[data.setting.metric])


def _mean_metrics(runs: dict[str, Any], name: str) -> dict[str, float]:
    mean = {loop: statistics.mean(runs[f"{name} {loop} {seed}"]["metric"] for seed in SEEDS) for loop in COMPARED}
    return {**mean, "d - b": mean["d"] - mean["b"]}


def _read_runs() -> dict[str, Any]:
    runs: dict[str, Any] = _read_results().get("learning", {}).get("runs", {})
    return runs


def _save_runs(runs: dict[str, Any]) -> None:
    results = _read_results()
    results["learning"] = summarize_runs(runs)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _read_results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
