"""One training of the benchmark `methods`, in its own process: `python -m benchmarks.methods.worker FOLDER ARM SEED`.

Prints one JSON object. FOLDER is a data set's, which `benchmarks.methods.run` has made: its home has the rows.
"""

import json
import os
import pickle
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods.arms import ARMS, SETS
from evertune.runtime.context import RunContext

TYPOS = "typos"
WEIGHTS = (".safetensors", ".bin")


def run_arm(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """Train the arm and judge it on the test rows, as they are and with typos."""
    from evertune import training
    from evertune.data import label_names
    from evertune.data.corpus import transactions
    from evertune.data.splits import assign
    from evertune.runtime.home import home_of
    from evertune.serving import bundle
    from evertune.tokenization import tokenize

    recipe = load_arm_recipe(folder, name, seed)
    home = home_of(recipe)
    snapshot = pickle.loads((folder / "snapshot.pickle").read_bytes())
    corpus_rows = assign.exclude_leaked_rows(transactions.read_rows(home, snapshot.version), recipe.data.split)
    rows = label_names.rename_rows(corpus_rows, recipe)
    tokens = tokenize.tokenize_rows(RunContext(recipe, home), snapshot, rows)
    run_folder = folder / "runs" / f"{name} {seed}"
    run_folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    busy = time.process_time()
    scores: list[float] = []
    metric_key = f"eval_{recipe.metric}"
    candidate = training.finetune_model(
        RunContext(recipe, home),
        tokens,
        tokenize.load_tokens(tokens, rows),
        rows,
        run_id="benchmark",
        folder=run_folder,
        log=lambda metrics, _: scores.extend([metrics[metric_key]] if metric_key in metrics else []),
        teacher=find_teacher(folder, name, seed),
    )
    times = {"seconds": time.perf_counter() - start, "processor": time.process_time() - busy}
    peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    bundle_folder = run_folder / "bundle"
    return {
        **times,
        "peak": peak_memory,
        "trained": candidate.trained,
        "steps": candidate.steps,
        "validation": max(scores),
        "weights": sum(file.stat().st_size for file in bundle_folder.rglob("*") if file.suffix in WEIGHTS) / 1e6,
        **score_model(recipe, bundle.load_predictor(bundle_folder), rows),
    }


def load_arm_recipe(folder: Path, name: str, seed: int) -> Any:
    """The recipe of the arm."""
    from evertune.config import load_recipe

    data = SETS[folder.name]
    set_changes = (folder / "changes.txt").read_text().splitlines()
    teacher_changes = [f"base_model={find_teacher(folder, name, seed)}/model"] if ARMS[name].teacher else []
    return load_recipe(
        str(data.recipe), [*data.changes, *set_changes, f"training.seed={seed}", *teacher_changes, *ARMS[name].changes]
    )


def find_teacher(folder: Path, name: str, seed: int) -> Path | None:
    """The bundle that teaches the arm."""
    teacher_name = ARMS[name].teacher
    return folder / "runs" / f"{teacher_name} {seed}" / "bundle" if teacher_name else None


def score_model(recipe: Any, predictor: Any, rows: Any) -> dict[str, float]:
    """The metric of the test rows, and of those that typos change, before and after."""
    import pyarrow.compute as pc

    from evertune.evaluation.perturbations import perturb_text
    from evertune.objectives import extract_cells, load_objective

    objective = load_objective(recipe.objective.type)
    metric = SETS[Path(sys.argv[1]).name].metric
    test = rows.filter(pc.equal(rows["split"], "test"))
    inputs = extract_cells(test, objective.INPUTS)
    targets = extract_cells(test, [objective.TARGET])
    perturbed = [perturb_text(TYPOS, entry, 17) for entry in inputs]
    differs = np.array([list(before) != list(after) for before, after in zip(inputs, perturbed, strict=True)])
    stats = [
        objective.compute_statistics(targets, predictor.predict(values), predictor.names)
        for values in (inputs, perturbed)
    ]

    def compute_metric(statistics: Any) -> float:
        return float(objective.compute_metrics(statistics.sum(0, dtype="float64"), predictor.names)[metric])

    return {
        "metric": compute_metric(stats[0]),
        "before typos": compute_metric(stats[0][differs]),
        "typos": compute_metric(stats[1][differs]),
    }


def measure_speeds(folder: Path, names: tuple[str, ...], seed: int, rounds: int = 5) -> dict[str, float]:
    """Median seconds in which each of these models predicts the test texts, in turn."""
    from evertune.data.corpus import transactions
    from evertune.objectives import extract_cells, load_objective
    from evertune.runtime.home import home_of
    from evertune.serving import bundle

    recipe = load_arm_recipe(folder, names[0], seed)
    snapshot = pickle.loads((folder / "snapshot.pickle").read_bytes())
    rows = transactions.read_rows(home_of(recipe), snapshot.version)
    inputs = extract_cells(rows.slice(0, 2000), load_objective(recipe.objective.type).INPUTS)
    models = {name: bundle.load_predictor(folder / "runs" / f"{name} {seed}" / "bundle") for name in names}
    timings: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.predict(inputs)
            timings[name] += [time.perf_counter() - start] if number else []  # the first pass makes kernels
    return {name: float(np.median(values)) for name, values in timings.items()}


if __name__ == "__main__":
    os.environ["EVERTUNE_HOME"] = str(Path(sys.argv[1]).resolve() / "home")
    if sys.argv[2] == "speeds":
        result: Any = measure_speeds(Path(sys.argv[1]).resolve(), tuple(sys.argv[4:]), int(sys.argv[3]))
    else:
        result = run_arm(Path(sys.argv[1]).resolve(), sys.argv[2], int(sys.argv[3]))
    sys.stdout.write("\n" + json.dumps(result) + "\n")
