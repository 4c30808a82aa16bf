"""The table of the training benchmark on a GPU: models of usual size, from their configurations, with random weights.

It fits a machine that is lent for ten minutes, and keeps what is measured as soon as it is.
"""

import functools
import gc
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.command import NotHereError, describe_machine
from benchmarks.training import loops as training_loops
from benchmarks.training.loops import pick_device
from benchmarks.training.rows import Prepared, prepare_rows
from benchmarks.training.run import count_operations, measure_peak, search_batch_size, summarize_rounds, time_training

RESULTS = Path(__file__).with_name("results.json")
LOOPS = {**training_loops.LOOPS, "e": functools.partial(training_loops.train_evertune, compiled=True)}


@dataclass(frozen=True)
class Case:
    """A model, and the rows that it learns.

    Args:
        data: name in `training_sets`.
        shape: `model_type` and what its configuration has other than by default.
        lora: whether it learns by LoRA, as a recipe with `method: lora` does; else all weights learn.
    """

    data: str
    shape: Mapping[str, Any]
    lora: bool = False


BERT = {"model_type": "bert"}  # by default it has 12 layers of 768 units, 110 million weights
DECODER = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "max_position_embeddings": 2048,
    "use_cache": False,
}
CASES = {
    "BERT-base, conll2003": Case("conll2003", BERT),
    "BERT-base, imdb": Case("imdb", BERT),
    "decoder of 1B with LoRA, imdb": Case("imdb", DECODER, lora=True),
}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        batches: rows a step that are tried for loop (c), of at most `most` tokens.
        steps: of a round, by loop; skipped: those of them that are not timed: kernels are chosen, or compiled.
    """

    batches: tuple[int, ...] = (16, 64, 128, 256)
    most: int = 65_536
    rounds: int = 2
    steps: Mapping[str, int] = field(default_factory=lambda: {"a": 16, "b": 30, "c": 30, "d": 30, "e": 45})
    skipped: Mapping[str, int] = field(default_factory=lambda: {"a": 5, "b": 5, "c": 5, "d": 5, "e": 20})


def measure() -> dict[str, Any]:
    """The table of each case, written to results.json after every training.

    Raises:
        NotHereError: there is no GPU.
    """
    import torch

    if pick_device() != "cuda":
        raise NotHereError("this machine has no CUDA device; nothing was measured or written")
    measured: dict[str, Any] = {"machine": describe_machine() | {"gpu": torch.cuda.get_device_name()}, "cases": {}}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            data = with_random_weights(prepare_rows(case.data), case, Path(folder))
            for part in measure_table(data, Effort()):
                measured["cases"][name] = part
                _save_results(measured)
                sys.stderr.write(f"{name}: {json.dumps(part['loops'])}\n")
    return measured


def _save_results(measured: dict[str, Any]) -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    RESULTS.write_text(json.dumps({**results, "gpu": measured}, indent=1) + "\n", encoding="utf-8")


def with_random_weights(data: Prepared, case: Case, folder: Path) -> Prepared:
    """The rows with another base model, which is written into the folder."""
    import torch
    from transformers import AutoConfig, AutoModel

    from evertune.config.methods import Lora

    ids = {"vocab_size": len(data.tokenizer), "pad_token_id": data.tokenizer.pad_token_id}
    torch.manual_seed(0)
    with torch.device(pick_device()):
        AutoModel.from_config(AutoConfig.for_model(**case.shape, **ids)).save_pretrained(folder)
    method = Lora().model_dump(mode="json") if case.lora else None
    return replace(data, place=str(folder), method=method)


def measure_table(
    data: Prepared, effort: Effort, loops: Mapping[str, Callable[..., Any]] = LOOPS
) -> Iterator[dict[str, Any]]:
    """What is known after each training: speed, memory and share of the peak by loop; medians of the rounds so far.

    Loop (c) takes its best batch size, the loops of Evertune as many tokens a step.
    """
    flops = count_operations(data.build_model(0))
    mean = statistics.mean(data.train.lengths)
    batch_speeds = search_batch_size(data, flops, effort.batches, effort.most, rounds=1)
    best = int(max(batch_speeds, key=lambda size: batch_speeds[size]))
    data = replace(data, setting=replace(data.setting, batch=best, tokens=max(16, round(best * mean))))
    runs = defaultdict[str, list[dict[str, float]]](list)
    memory = dict[str, float]()
    top = 0.0
    for seed in range(effort.rounds):
        for loop, train in loops.items():
            _clear_memory()
            learn = functools.partial(train, data, seed, effort.steps[loop])
            runs[loop].append(time_training(learn, flops, effort.skipped[loop]))
            memory[loop] = max(memory.get(loop, 0.0), _peak_memory())
            top = max(top, measure_peak("bf16"))
            speeds = {
                name: summarize_rounds(loop_runs, mean, top) | {"peak memory, MB": memory[name]}
                for name, loop_runs in runs.items()
            }
            yield {
                "loops": speeds,
                "peak": top,
                "mean tokens of a row": mean,
                "rows a step": best,
                "search": batch_speeds,
            }


def _clear_memory() -> None:
    import torch

    gc.collect()
    if pick_device() == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_memory() -> float:
    """Megabytes of the GPU that tensors took at once; on a CPU those that this process ever took."""
    import torch

    if pick_device() == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
