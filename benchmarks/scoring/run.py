"""Scoring a file: Evertune against `transformers.pipeline` at its best batch size, with one model, file to file."""

import csv
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.command import ROOT, evertune, machine
from benchmarks.scoring.pipeline import through_pipeline

REPEATS = 3
# Settings of the opponent, found by `search` below; rows/s by batch size, one run of 1,000 rows each, on one thread of
# a machine that was at other work too, so neighbouring sizes are not told apart. Run `search` anew on a quiet machine.
#   banking77: fp32 1: 86, 4: 120, 16: 103, 64: 72; bf16 4: 227, 16: 258, 64: 239
#   conll2003: fp32 1: 74, 4: 110, 16: 87; bf16 not searched, banking77's is taken
BATCH = {"float32": 4, "bfloat16": 16}
SIZES = (1, 4, 16, 64)
TASKS: dict[str, dict[str, Any]] = {
    "banking77": {"recipe": "configs/support_banking77.yaml", "column": "text", "metric": "accuracy"},
    "conll2003": {"recipe": "configs/ner_conll2003.yaml", "column": "tokens", "metric": "entity_f1"},
}


def measure() -> dict[str, Any]:
    """Rows/s of each arm on each task, medians of alternating runs; whole processes beside them."""
    with tempfile.TemporaryDirectory() as folder:
        return {"machine": machine(), "tasks": {name: _task(name, Path(folder)) for name in TASKS}}


def search(name: str) -> dict[str, float]:
    """Rows/s of the pipeline by dtype and batch size: what `BATCH` was chosen from."""
    with tempfile.TemporaryDirectory() as folder:
        bundle, source = _model(name, Path(folder)), _rows(name, Path(folder), ("test",), 1000)
        found = {}
        for dtype in BATCH:
            for size in SIZES:
                arm = _pipeline(bundle, source, Path(folder) / "out.jsonl", dtype, size)
                found[f"{dtype} {size}"] = 1000 / _seconds(arm)
    return found


def _task(name: str, folder: Path) -> dict[str, Any]:
    model, source = _model(name, folder), _rows(name, folder, ("test",))
    output, count = folder / "out.jsonl", len(source.read_text(encoding="utf-8").splitlines())
    arms = {
        "pipeline": _pipeline(model, source, output, "float32", BATCH["float32"]),
        "pipeline, bf16": _pipeline(model, source, output, "bfloat16", BATCH["bfloat16"]),
        "evertune": _evertune(name, model, source, output),
    }
    speeds: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(REPEATS):
        for arm, call in arms.items():
            speeds[arm].append(count / _seconds(call))
    median = {arm: statistics.median(found) for arm, found in speeds.items()}
    return {
        "rows": count, "precision": json.loads((model / "evertune.json").read_text())["precision"], "rows/s": median,
        "runs": speeds, "ratio": {arm: median["evertune"] / found for arm, found in median.items()},
        "processes": _processes(name, folder, model),
    }  # fmt: skip


def _processes(name: str, folder: Path, model: Path) -> dict[str, Any]:
    """The same as whole processes over all rows of the data set, with imports and the start of Prefect."""
    source = _rows(name, folder, ("train", "test"))
    count = len(source.read_text(encoding="utf-8").splitlines())
    pipeline = [sys.executable, "-m", "benchmarks.scoring.pipeline", model, source, folder / "out.jsonl", "float32"]

    def opponent() -> None:
        subprocess.run([*map(str, pipeline), str(BATCH["float32"])], cwd=ROOT, check=True, capture_output=True)

    def ours() -> None:
        given = ("--input", str(source), "--output", str(folder / "out.jsonl"))
        evertune(folder / name, "score", TASKS[name]["recipe"], *given)

    seconds = {"pipeline": _seconds(opponent), "evertune": _seconds(ours)}
    return {"rows": count, "seconds": seconds, "ratio": seconds["pipeline"] / seconds["evertune"]}


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _pipeline(model: Path, source: Path, output: Path, dtype: str, size: int) -> Callable[[], object]:
    return lambda: through_pipeline(model, source, output, dtype, size)


def _evertune(name: str, model: Path, source: Path, output: Path) -> Callable[[], object]:
    from evertune.config import load
    from evertune.data.sources import read as sources
    from evertune.serving import scoring

    recipe, column = load(str(ROOT / TASKS[name]["recipe"])), TASKS[name]["column"]
    return lambda: scoring.score(model, 1, sources.inputs(source, recipe), column, output, lambda _: None)


def _model(name: str, folder: Path) -> Path:
    """A champion trained for a moment: how well it does is no matter here."""
    home, task = folder / name, TASKS[name]
    home.mkdir()
    quick = ["training.epochs=0.1", f"evaluation.gate.minimum.{task['metric']}=0.0", "evaluation.bootstrap=200"]
    evertune(home, "run", task["recipe"], *(part for one in quick for part in ("--set", one)))
    return next(home.glob("models/*/runs/*/bundle"))


def _rows(name: str, folder: Path, splits: tuple[str, ...], most: int | None = None) -> Path:
    """The texts of the data set as JSON Lines, each once, in their order."""
    from evertune.config import load
    from evertune.config.base import expand

    sources = load(str(ROOT / TASKS[name]["recipe"])).data.sources
    values: list[Any] = []
    for source in sources:
        path = ROOT / "configs" / expand(source.path)
        if any(split in path.name for split in splits):
            values += _texts(path) if path.suffix == ".csv" else _sentences(path)
    target = folder / f"{name}_{'_'.join(splits)}.jsonl"
    lines = (json.dumps({TASKS[name]["column"]: value}) + "\n" for value in values[:most])
    target.write_text("".join(lines), encoding="utf-8")
    return target


def _texts(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def _sentences(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    words = ["" if line.startswith("-DOCSTART-") else line.split(" ")[0] for line in lines]
    return [list(group) for some, group in itertools.groupby(words, bool) if some]
