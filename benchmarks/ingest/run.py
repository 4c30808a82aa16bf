"""Rows a second and peak memory from a CSV file to the accepted corpus, beside plain pandas and Great Expectations."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import ROOT, describe_machine
from benchmarks.ingest.arms import ARMS
from benchmarks.ingest.rows import write_rows

SIZES = {10_000: 3, 100_000: 3, 1_000_000: 3, 10_000_000: 1}  # rows, and how often each arm runs


def measure(sizes: dict[int, int] = SIZES) -> dict[str, Any]:
    """Every arm in a process of its own, the arms by turns; medians by size."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            "machine": describe_machine(),
            "sizes": [_measure_size(Path(folder), rows, times) for rows, times in sizes.items()],
        }


def _measure_size(folder: Path, rows: int, times: int) -> dict[str, Any]:
    path = folder / "rows.csv"
    write_rows(path, rows)
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for _ in range(times):
        for arm, arm_runs in runs.items():
            arm_runs.append(_run_arm(arm, path))
    arms = {arm: _summarize_runs(arm_runs, rows) for arm, arm_runs in runs.items()}
    evertune_seconds, pandas_seconds = (arms[name]["seconds"] for name in ("evertune", "pandas and Great Expectations"))
    return {
        "rows": rows,
        "file_bytes": path.stat().st_size,
        "arms": arms,
        "runs": runs,
        "ratio": pandas_seconds / evertune_seconds,
    }


def _run_arm(arm: str, path: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        command = [sys.executable, "-m", "benchmarks.ingest.arms", arm, str(path), scratch]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if process.returncode:
            raise RuntimeError(f"{arm} ended with {process.returncode}:\n{process.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
        return result


def _summarize_runs(runs: list[dict[str, Any]], rows: int) -> dict[str, Any]:
    seconds = statistics.median(run["seconds"] for run in runs)
    return {
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in runs),
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        **{name: runs[0][name] for name in ("accepted", "refused")},
    }
