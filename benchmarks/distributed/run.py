"""One process with all threads against two processes that share them: the same steps on the same rows."""

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.command import ROOT, describe_machine
from evertune.runtime.context import RunContext

RECIPE = "configs/support_intents.yaml"
STEPS = 12  # between two checkpoints; the first are the warm-up, the rest is timed
REPEATS = 3
ARMS = (1, 2)
CHANGES = ("training.early_stopping=null", f"training.checkpoint_steps={STEPS}", "training.tokens_per_batch=4096")


def measure() -> dict[str, Any]:
    """Seconds a step and until the first checkpoint of both arms, alternating, and the ratio of the medians."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        runs: dict[int, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for repeat in range(REPEATS):
            for arm in ARMS:
                # One home: what the machine is good at is measured once, and both arms compute in the same precision.
                runs[arm].append(_train_arm(Path(folder), f"{repeat}-{arm}", arm))
    step, start = ({arm: _median_part(runs[arm], part) for arm in ARMS} for part in ("step", "start"))
    return {
        "machine": describe_machine(),
        "threads": torch.get_num_threads(),
        "steps": 2 * STEPS,
        "runs": runs,
        "seconds a step": step,
        "seconds to the first checkpoint": start,
        "speed, two processes over one": step[1] / step[2],
    }


def _median_part(runs: list[dict[str, float]], part: str) -> float:
    return statistics.median(run[part] for run in runs)


def _train_arm(root: Path, name: str, processes: int) -> dict[str, float]:
    """Train three times `STEPS` steps; when a checkpoint's metrics are told, its steps are done.

    No row is validated, and a checkpoint is written in each stretch, as in a real training.
    """
    from evertune import training
    from evertune.config import load_recipe
    from evertune.records import Snapshot
    from evertune.runtime.home import Home
    from evertune.serving.portable.batching import TokenBatches
    from evertune.tokenization import tokenize

    rows, labels = _ticket_rows()
    recipe = load_recipe(ROOT / RECIPE, [*CHANGES, f"training.processes={processes}"])
    home = Home(root, recipe.name)
    settings = recipe.training
    tokens = tokenize.tokenize_rows(
        RunContext(recipe, home), Snapshot(1, "benchmark", {"train": len(rows)}, labels, 1), rows
    )
    encoded = tokenize.load_tokens(tokens, rows)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    epochs = 3 * STEPS / len(TokenBatches(lengths, settings.tokens_per_batch, 1, settings.seed))
    recipe = recipe.model_copy(update={"training": settings.model_copy(update={"epochs": epochs})})
    marks: dict[int, float] = {}

    def log(_metrics: Mapping[str, float], step: int) -> None:
        marks[step] = time.perf_counter()

    begin = time.perf_counter()
    training.finetune_model(
        RunContext(recipe, home), tokens, encoded, rows, run_id="benchmark", folder=root / name, log=log
    )
    return {"step": (marks[3 * STEPS] - marks[STEPS]) / (2 * STEPS), "start": marks[STEPS] - begin}


def _ticket_rows() -> tuple[Any, tuple[str, ...]]:
    """The sample's tickets as the corpus would give them, all to train on."""
    import pyarrow as pa

    from evertune.samples.support_tickets import generate_rows

    good = [row for row in generate_rows(8) if row["message"] and row["intent"]]
    size = len(good)
    columns = {
        "row_version": [f"{number:032x}" for number in range(size)],
        "batch": [1] * size,
        "part": [0] * size,
        "split": ["train"] * size,
        "text": [row["message"] for row in good],
        "label": [row["intent"] for row in good],
    }
    return pa.table(columns), tuple(sorted({row["intent"] for row in good}))
