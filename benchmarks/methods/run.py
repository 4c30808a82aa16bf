"""What each way of tuning reaches and costs: metric over seeds, processor seconds, memory, size of the weights.

Every training is a process of its own with one thread, two at a time. What an earlier call has measured is not
measured again while the arm, its data set and this file's protocol are the same. With METHODS_FOLDER the models
are kept there.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.command import ROOT, describe_machine
from benchmarks.methods import arms as methods_arms
from benchmarks.methods.arms import ARMS, SETS
from evertune.runtime.context import RunContext

RESULTS = Path(__file__).with_name("results.json")
SEEDS = (17, 18, 19)
PROCESSES = int(os.environ.get("METHODS_PROCESSES", "2"))
RACED = ("full", "student, distilled")
WRITING = Lock()


def measure() -> dict[str, Any]:
    """Every arm of every data set by seed, teachers first, and how fast the student is beside its teacher."""
    runs = _read_results().get("methods", {}).get("runs", {})
    with ExitStack() as stack:
        given_folder = os.environ.get("METHODS_FOLDER")
        root = Path(given_folder or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        for seed in SEEDS:
            for with_teacher in (False, True):
                with ThreadPoolExecutor(PROCESSES) as pool:
                    list(pool.map(lambda job: _keep_run(runs, root, *job), _list_jobs(seed, with_teacher, runs, root)))
        speeds = _measure_speeds(root, runs) or _read_results().get("methods", {}).get("speeds", {})
    return {"machine": describe_machine(), "runs": runs, "speeds": speeds, "settings": _data_settings()}


def _list_jobs(seed: int, with_teacher: bool, runs: dict[str, Any], root: Path) -> list[tuple[str, str, int]]:
    """What is lacking of a seed, with the teachers of what is lacking."""
    jobs = [
        (data, name, seed)
        for data in SETS
        for name, arm in ARMS.items()
        if arm.only in {None, data}
        and runs.get(_run_key(data, name, seed), {}).get("setting") != _arm_setting(data, name)
    ]
    if with_teacher:
        return [job for job in jobs if ARMS[job[1]].teacher]
    teachers = {(data, str(ARMS[name].teacher), seed) for data, name, seed in jobs if ARMS[name].teacher}
    missing = [job for job in sorted(teachers) if not (root / job[0] / "runs" / f"{job[1]} {seed}" / "bundle").exists()]
    return list(dict.fromkeys([*missing, *(job for job in jobs if not ARMS[job[1]].teacher)]))


def _keep_run(runs: dict[str, Any], root: Path, data: str, name: str, seed: int) -> None:
    with WRITING:
        folder = _prepare_folder(root / data)
    result = _run_worker(folder, name, str(seed))
    sys.stderr.write(
        f"{data}, {name}, {seed}: {result['metric']:.4f}, with typos {result['typos']:.4f}, "
        f"{result['processor']:.0f} s\n"
    )
    with WRITING:
        runs[_run_key(data, name, seed)] = {"setting": _arm_setting(data, name), **result}
        results = _read_results()
        earlier = results.get("methods", {})
        results["methods"] = {
            "machine": describe_machine(),
            "runs": runs,
            "speeds": earlier.get("speeds", {}),
            "settings": _data_settings(),
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _run_key(data: str, name: str, seed: int) -> str:
    return f"{data}; {name}; {seed}"


def _arm_setting(data: str, name: str) -> Any:
    return json.loads(json.dumps([asdict(SETS[data]), asdict(ARMS[name])]))


def _data_settings() -> dict[str, Any]:
    return {name: asdict(data_set) for name, data_set in SETS.items()}


def _prepare_folder(folder: Path) -> Path:
    """A data set's folder: its rows in a corpus, which every training reads."""
    if (folder / "snapshot.pickle").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "changes.txt").write_text("\n".join(methods_arms.write_rows(folder.name, folder)))
    _run_python("benchmarks.methods.run", str(folder))
    return folder


def _ingest_rows(folder: Path) -> None:
    from benchmarks.methods.worker import load_arm_recipe
    from evertune.data import admission
    from evertune.data.corpus import transactions
    from evertune.data.sources import read as sources
    from evertune.runtime.home import home_of

    recipe = load_arm_recipe(folder, "full", SEEDS[0])
    home = home_of(recipe)
    batch = transactions.ingest_rows(RunContext(recipe, home), lambda seen: sources.read_sources(recipe, seen))
    snapshot, _ = admission.admit_batch(batch, RunContext(recipe, home))
    (folder / "snapshot.pickle").write_bytes(pickle.dumps(snapshot))


def _run_worker(folder: Path, *arguments: str) -> Any:
    return json.loads(_run_python("benchmarks.methods.worker", str(folder), *arguments).splitlines()[-1])


def _run_python(module: str, *arguments: str, threads: int = 1) -> str:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "EVERTUNE_JOBS": str(PROCESSES),
        "EVERTUNE_HOME": str(Path(arguments[0]).resolve() / "home"),
    }
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} ended with {process.returncode}:\n{process.stderr[-2000:]}")
    return process.stdout


def _measure_speeds(root: Path, runs: dict[str, Any]) -> dict[str, Any]:
    """Of each data set whose models are there: seconds of teacher and student, by turns."""
    speeds = {}
    for data in SETS:
        if all((root / data / "runs" / f"{name} {SEEDS[0]}" / "bundle").exists() for name in RACED):
            speeds[data] = _run_worker(root / data, "speeds", str(SEEDS[0]), *RACED)
    return speeds


def _read_results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


if __name__ == "__main__":
    _ingest_rows(Path(sys.argv[1]))
