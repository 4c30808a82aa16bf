"""One training of the benchmark `methods`, in a process of its own: `python -m benchmarks.methods.worker FOLDER ARM SEED`.

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

TYPOS = "typos"
WEIGHTS = (".safetensors", ".bin")


def run(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """Train the arm and judge it on the test rows, as they are and with typos."""
    from evertune import training
    from evertune.data import label_names as relabel
    from evertune.data.corpus import transactions as corpus
    from evertune.data.splits import assign as splits
    from evertune.runtime.home import home_of
    from evertune.serving import bundle
    from evertune.tokenization import tokenize as tokenization

    recipe = recipe_of(folder, name, seed)
    home, snapshot = home_of(recipe), pickle.loads((folder / "snapshot.pickle").read_bytes())
    found = splits.apart(corpus.rows(home, snapshot.version), recipe.data.split)
    rows = relabel.rows(found, recipe)
    tokens = tokenization.tokenize(recipe, home, snapshot, rows)
    place = folder / "runs" / f"{name} {seed}"
    place.mkdir(parents=True, exist_ok=True)
    start, busy = time.perf_counter(), time.process_time()
    seen: list[float] = []
    asked = f"eval_{recipe.metric}"
    candidate = training.finetune(
        recipe, home, tokens, tokenization.load(tokens, rows), rows, run_id="benchmark", folder=place,
        log=lambda found, _: seen.extend([found[asked]] if asked in found else []),
        teacher=teacher(folder, name, seed),
    )  # fmt: skip
    spent = {"seconds": time.perf_counter() - start, "processor": time.process_time() - busy}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    made = place / "bundle"
    return {
        **spent, "peak": most, "trained": candidate.trained, "steps": candidate.steps, "validation": max(seen),
        "weights": sum(one.stat().st_size for one in made.rglob("*") if one.suffix in WEIGHTS) / 1e6,
        **judged(recipe, bundle.predictor(made), rows),
    }  # fmt: skip


def recipe_of(folder: Path, name: str, seed: int) -> Any:
    """The recipe of the arm."""
    from evertune.config import load

    data = SETS[folder.name]
    own = (folder / "changes.txt").read_text().splitlines()
    taught = [f"base_model={teacher(folder, name, seed)}/model"] if ARMS[name].teacher else []
    return load(str(data.recipe), [*data.changes, *own, f"training.seed={seed}", *taught, *ARMS[name].changes])


def teacher(folder: Path, name: str, seed: int) -> Path | None:
    """The bundle that teaches the arm."""
    taught = ARMS[name].teacher
    return folder / "runs" / f"{taught} {seed}" / "bundle" if taught else None


def judged(recipe: Any, predictor: Any, rows: Any) -> dict[str, float]:
    """The metric of the test rows, and of those that typos change, before and after."""
    import pyarrow.compute as pc

    from evertune.evaluation.perturbations import changed
    from evertune.objectives import cells, module

    objective, metric = module(recipe.objective.type), SETS[Path(sys.argv[1]).name].metric
    test = rows.filter(pc.equal(rows["split"], "test"))
    inputs, targets = cells(test, objective.INPUTS), cells(test, [objective.TARGET])
    other = [changed(TYPOS, one, 17) for one in inputs]
    differs = np.array([list(one) != list(two) for one, two in zip(inputs, other, strict=True)])
    stats = [objective.statistics(targets, predictor.predict(given), predictor.names) for given in (inputs, other)]

    def value(found: Any) -> float:
        return float(objective.metrics(found.sum(0, dtype="float64"), predictor.names)[metric])

    return {"metric": value(stats[0]), "before typos": value(stats[0][differs]), "typos": value(stats[1][differs])}


def speeds(folder: Path, names: tuple[str, ...], seed: int, rounds: int = 5) -> dict[str, float]:
    """Median seconds in which each of these models predicts the test texts, in turn."""
    from evertune.data.corpus import transactions as corpus
    from evertune.objectives import cells, module
    from evertune.runtime.home import home_of
    from evertune.serving import bundle

    recipe = recipe_of(folder, names[0], seed)
    snapshot = pickle.loads((folder / "snapshot.pickle").read_bytes())
    rows = corpus.rows(home_of(recipe), snapshot.version)
    inputs = cells(rows.slice(0, 2000), module(recipe.objective.type).INPUTS)
    models = {name: bundle.predictor(folder / "runs" / f"{name} {seed}" / "bundle") for name in names}
    took: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.predict(inputs)
            took[name] += [time.perf_counter() - start] if number else []  # the first pass makes kernels
    return {name: float(np.median(values)) for name, values in took.items()}


if __name__ == "__main__":
    os.environ["EVERTUNE_HOME"] = str(Path(sys.argv[1]).resolve() / "home")
    if sys.argv[2] == "speeds":
        found: Any = speeds(Path(sys.argv[1]).resolve(), tuple(sys.argv[4:]), int(sys.argv[3]))
    else:
        found = run(Path(sys.argv[1]).resolve(), sys.argv[2], int(sys.argv[3]))
    sys.stdout.write("\n" + json.dumps(found) + "\n")
