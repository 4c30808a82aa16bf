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

from benchmarks.command import ROOT, machine
from benchmarks.methods import arms as methods_arms
from benchmarks.methods.arms import ARMS, SETS

RESULTS = Path(__file__).with_name("results.json")
SEEDS = (17, 18, 19)
PROCESSES = int(os.environ.get("METHODS_PROCESSES", "2"))
RACED = ("full", "student, distilled")
WRITING = Lock()


def measure() -> dict[str, Any]:
    """Every arm of every data set by seed, teachers first, and how fast the student is beside its teacher."""
    known = _results().get("methods", {}).get("runs", {})
    with ExitStack() as stack:
        given = os.environ.get("METHODS_FOLDER")
        root = Path(given or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        for seed in SEEDS:
            for taught in (False, True):
                with ThreadPoolExecutor(PROCESSES) as pool:
                    list(pool.map(lambda job: _keep(known, root, *job), _jobs(seed, taught, known, root)))
        speeds = _speeds(root, known) or _results().get("methods", {}).get("speeds", {})
    return {"machine": machine(), "runs": known, "speeds": speeds, "settings": _settings()}


def _jobs(seed: int, taught: bool, known: dict[str, Any], root: Path) -> list[tuple[str, str, int]]:
    """What is lacking of a seed, with the teachers of what is lacking."""
    wanted = [
        (data, name, seed) for data in SETS for name, arm in ARMS.items() if arm.only in {None, data}
        and known.get(_key(data, name, seed), {}).get("setting") != _setting(data, name)
    ]  # fmt: skip
    if taught:
        return [one for one in wanted if ARMS[one[1]].teacher]
    teachers = {(data, str(ARMS[name].teacher), seed) for data, name, seed in wanted if ARMS[name].teacher}
    missing = [one for one in sorted(teachers) if not (root / one[0] / "runs" / f"{one[1]} {seed}" / "bundle").exists()]
    return list(dict.fromkeys([*missing, *(one for one in wanted if not ARMS[one[1]].teacher)]))


def _keep(known: dict[str, Any], root: Path, data: str, name: str, seed: int) -> None:
    with WRITING:
        folder = _prepared(root / data)
    found = _process(folder, name, str(seed))
    sys.stderr.write(
        f"{data}, {name}, {seed}: {found['metric']:.4f}, with typos {found['typos']:.4f}, {found['processor']:.0f} s\n"
    )
    with WRITING:
        known[_key(data, name, seed)] = {"setting": _setting(data, name), **found}
        results = _results()
        before = results.get("methods", {})
        results["methods"] = {
            "machine": machine(), "runs": known, "speeds": before.get("speeds", {}), "settings": _settings()
        }  # fmt: skip
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _key(data: str, name: str, seed: int) -> str:
    return f"{data}; {name}; {seed}"


def _setting(data: str, name: str) -> Any:
    return json.loads(json.dumps([asdict(SETS[data]), asdict(ARMS[name])]))


def _settings() -> dict[str, Any]:
    return {name: asdict(one) for name, one in SETS.items()}


def _prepared(folder: Path) -> Path:
    """A data set's folder: its rows in a corpus, which every training reads."""
    if (folder / "snapshot.pickle").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "changes.txt").write_text("\n".join(methods_arms.write(folder.name, folder)))
    _python("benchmarks.methods.run", str(folder))
    return folder


def _take_in(folder: Path) -> None:
    from benchmarks.methods.worker import recipe_of
    from evertune.data import admission
    from evertune.data.corpus import transactions as corpus
    from evertune.data.sources import read as sources
    from evertune.runtime.home import home_of

    recipe = recipe_of(folder, "full", SEEDS[0])
    home = home_of(recipe)
    batch = corpus.ingest(recipe, home, lambda seen: sources.read(recipe, seen))
    snapshot, _ = admission.admit(batch, recipe, home)
    (folder / "snapshot.pickle").write_bytes(pickle.dumps(snapshot))


def _process(folder: Path, *arguments: str) -> Any:
    return json.loads(_python("benchmarks.methods.worker", str(folder), *arguments).splitlines()[-1])


def _python(module: str, *arguments: str, threads: int = 1) -> str:
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "EVERTUNE_JOBS": str(PROCESSES),
        "EVERTUNE_HOME": str(Path(arguments[0]).resolve() / "home"),
    }  # fmt: skip
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def _speeds(root: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Of each data set whose models are there: seconds of teacher and student, by turns."""
    found = {}
    for data in SETS:
        if all((root / data / "runs" / f"{name} {SEEDS[0]}" / "bundle").exists() for name in RACED):
            found[data] = _process(root / data, "speeds", str(SEEDS[0]), *RACED)
    return found


def _results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


if __name__ == "__main__":
    _take_in(Path(sys.argv[1]))
