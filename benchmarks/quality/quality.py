"""What the shipped recipes reach on public data: official test splits, and the same without leaked rows."""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import evertune, machine

SEEDS = (17, 18, 19)
METRICS = {
    "configs/support_banking77.yaml": ("accuracy", "f1_macro", "ece"),
    "configs/ner_conll2003.yaml": ("token_f1_weighted", "token_f1_macro", "entity_f1", "ece"),
    "configs/sentiment_imdb.yaml": ("accuracy", "f1_macro", "ece"),
}


def measure(recipe: str, seeds: tuple[int, ...] = SEEDS) -> dict[str, Any]:
    """Train a recipe for its seeds through `evertune run` and collect the test metrics."""
    with tempfile.TemporaryDirectory() as home:
        runs = [_run(Path(home), recipe, seed) for seed in seeds]
    return {"machine": machine(), "recipe": recipe, "runs": runs, "mean": _mean(recipe, runs)}


def _run(home: Path, recipe: str, seed: int) -> dict[str, Any]:
    done = evertune(home, "run", recipe, "--set", f"training.seed={seed}", "--force", "--json")
    sys.stderr.write(f"{recipe} seed {seed}: {done['metrics']['test']} in {done['wall']:.0f} s\n")
    return {
        "seed": seed, "seconds": done["seconds"], "wall": done["wall"], "rows": done["snapshot"]["rows"],
        "training": done["training"], "test": done["metrics"]["test"], "test_clean": done["metrics"]["test_clean"],
    }  # fmt: skip


def _mean(recipe: str, runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        split: {metric: statistics.mean(run[split][metric] for run in runs) for metric in METRICS[recipe]}
        for split in ("test", "test_clean")
    }
