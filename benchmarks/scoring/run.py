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

from benchmarks.command import ROOT, describe_machine, run_evertune
from benchmarks.scoring.pipeline import score_with_pipeline

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
        return {"machine": describe_machine(), "tasks": {name: _measure_task(name, Path(folder)) for name in TASKS}}


def search_batch_size(name: str) -> dict[str, float]:
    """Rows/s of the pipeline by dtype and batch size: what `BATCH` was chosen from."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = _train_champion(name, Path(folder))
        source = _write_rows(name, Path(folder), ("test",), 1000)
        speeds = {}
        for dtype in BATCH:
            for size in SIZES:
                arm = _pipeline_call(bundle, source, Path(folder) / "out.jsonl", dtype, size)
                speeds[f"{dtype} {size}"] = 1000 / _measure_seconds(arm)
    return speeds


def _measure_task(name: str, folder: Path) -> dict[str, Any]:
    model = _train_champion(name, folder)
    source = _write_rows(name, folder, ("test",))
    output = folder / "out.jsonl"
    count = len(source.read_text(encoding="utf-8").splitlines())
    arms = {
        "pipeline": _pipeline_call(model, source, output, "float32", BATCH["float32"]),
        "pipeline, bf16": _pipeline_call(model, source, output, "bfloat16", BATCH["bfloat16"]),
        "evertune": _evertune_call(name, model, source, output),
    }
    speeds: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(REPEATS):
        for arm, call in arms.items():
            speeds[arm].append(count / _measure_seconds(call))
    median = {arm: statistics.median(values) for arm, values in speeds.items()}
    return {
        "rows": count,
        "precision": json.loads((model / "evertune.json").read_text())["precision"],
        "rows/s": median,
        "runs": speeds,
        "ratio": {arm: median["evertune"] / speed for arm, speed in median.items()},
        "processes": _measure_processes(name, folder, model),
    }


def _measure_processes(name: str, folder: Path, model: Path) -> dict[str, Any]:
    """The same as whole processes over all rows of the data set, with imports and the start of Prefect."""
    source = _write_rows(name, folder, ("train", "test"))
    count = len(source.read_text(encoding="utf-8").splitlines())
    command = [sys.executable, "-m", "benchmarks.scoring.pipeline", model, source, folder / "out.jsonl", "float32"]

    def run_opponent() -> None:
        subprocess.run([*map(str, command), str(BATCH["float32"])], cwd=ROOT, check=True, capture_output=True)

    def score_file() -> None:
        arguments = ("--input", str(source), "--output", str(folder / "out.jsonl"))
        run_evertune(folder / name, "score", TASKS[name]["recipe"], *arguments)

    seconds = {"pipeline": _measure_seconds(run_opponent), "evertune": _measure_seconds(score_file)}
    return {"rows": count, "seconds": seconds, "ratio": seconds["pipeline"] / seconds["evertune"]}


def _measure_seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _pipeline_call(model: Path, source: Path, output: Path, dtype: str, size: int) -> Callable[[], object]:
    return lambda: score_with_pipeline(model, source, output, dtype, size)


def _evertune_call(name: str, model: Path, source: Path, output: Path) -> Callable[[], object]:
    from evertune.config import load_recipe
    from evertune.data.sources import read as sources
    from evertune.serving import scoring

    recipe = load_recipe(str(ROOT / TASKS[name]["recipe"]))
    column = TASKS[name]["column"]
    return lambda: scoring.score_file(model, 1, sources.read_inputs(source, recipe), column, output, lambda _: None)


def _train_champion(name: str, folder: Path) -> Path:
    """A champion trained for a moment: how well it does is no matter here."""
    home = folder / name
    task = TASKS[name]
    home.mkdir()
    quick = ["training.epochs=0.1", f"evaluation.gate.minimum.{task['metric']}=0.0", "evaluation.bootstrap=200"]
    run_evertune(home, "run", task["recipe"], *(part for change in quick for part in ("--set", change)))
    return next(home.glob("models/*/runs/*/bundle"))


def _write_rows(name: str, folder: Path, splits: tuple[str, ...], limit: int | None = None) -> Path:
    """The texts of the data set as JSON Lines, each once, in their order."""
    from evertune.config import load_recipe
    from evertune.config.base import expand_variables

    sources = load_recipe(str(ROOT / TASKS[name]["recipe"])).data.sources
    values: list[Any] = []
    for source in sources:
        path = ROOT / "configs" / expand_variables(source.path)
        if any(split in path.name for split in splits):
            values += _read_texts(path) if path.suffix == ".csv" else _read_sentences(path)
    target = folder / f"{name}_{'_'.join(splits)}.jsonl"
    lines = (json.dumps({TASKS[name]["column"]: value}) + "\n" for value in values[:limit])
    target.write_text("".join(lines), encoding="utf-8")
    return target


def _read_texts(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def _read_sentences(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    words = ["" if line.startswith("-DOCSTART-") else line.split(" ")[0] for line in lines]
    return [list(group) for has_words, group in itertools.groupby(words, bool) if has_words]
