"""Rows a second and peak memory from a CSV file to the accepted corpus, beside plain pandas and Great Expectations."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import ROOT, machine
from benchmarks.ingest.arms import ARMS
from benchmarks.ingest.rows import write

SIZES = {10_000: 3, 100_000: 3, 1_000_000: 3, 10_000_000: 1}  # rows, and how often each arm runs


def measure(sizes: dict[int, int] = SIZES) -> dict[str, Any]:
    """Every arm in a process of its own, the arms by turns; medians by size."""
    with tempfile.TemporaryDirectory() as folder:
        return {"machine": machine(), "sizes": [_size(Path(folder), rows, times) for rows, times in sizes.items()]}


def _size(folder: Path, rows: int, times: int) -> dict[str, Any]:
    path = folder / "rows.csv"
    write(path, rows)
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for _ in range(times):
        for arm, done in runs.items():
            done.append(_run(arm, path))
    arms = {arm: _summary(done, rows) for arm, done in runs.items()}
    ours, theirs = (arms[name]["seconds"] for name in ("evertune", "pandas and Great Expectations"))
    return {"rows": rows, "file_bytes": path.stat().st_size, "arms": arms, "runs": runs, "ratio": theirs / ours}


def _run(arm: str, path: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        command = [sys.executable, "-m", "benchmarks.ingest.arms", arm, str(path), scratch]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{arm} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def _summary(runs: list[dict[str, Any]], rows: int) -> dict[str, Any]:
    seconds = statistics.median(one["seconds"] for one in runs)
    return {
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "cpu_seconds": statistics.median(one["cpu_seconds"] for one in runs),
        "peak_bytes": max(one["peak_bytes"] for one in runs),
        **{name: runs[0][name] for name in ("accepted", "refused")},
    }
