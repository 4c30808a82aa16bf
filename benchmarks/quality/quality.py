"""What the shipped recipes reach on public data: official test splits, and the same without leaked rows."""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import describe_machine, run_evertune

SEEDS = (17, 18, 19)
METRICS = {
    "configs/support_banking77.yaml": ("accuracy", "f1_macro", "ece"),
    "configs/ner_conll2003.yaml": ("token_f1_weighted", "token_f1_macro", "entity_f1", "ece"),
    "configs/sentiment_imdb.yaml": ("accuracy", "f1_macro", "ece"),
}


def measure(recipe: str, seeds: tuple[int, ...] = SEEDS) -> dict[str, Any]:
    """Train a recipe for its seeds through `evertune run` and collect the test metrics."""
    with tempfile.TemporaryDirectory() as home:
        runs = [_run_seed(Path(home), recipe, seed) for seed in seeds]
    return {"machine": describe_machine(), "recipe": recipe, "runs": runs, "mean": _mean_metrics(recipe, runs)}


def _run_seed(home: Path, recipe: str, seed: int) -> dict[str, Any]:
    outcome = run_evertune(home, "run", recipe, "--set", f"training.seed={seed}", "--force", "--json")
    sys.stderr.write(f"{recipe} seed {seed}: {outcome['metrics']['test']} in {outcome['wall']:.0f} s\n")
    return {
        "seed": seed,
        "seconds": outcome["seconds"],
        "wall": outcome["wall"],
        "rows": outcome["snapshot"]["rows"],
        "training": outcome["training"],
        "test": outcome["metrics"]["test"],
        "test_clean": outcome["metrics"]["test_clean"],
    }


def _mean_metrics(recipe: str, runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        split: {metric: statistics.mean(run[split][metric] for run in runs) for metric in METRICS[recipe]}
        for split in ("test", "test_clean")
    }
