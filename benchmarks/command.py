"""Runs the command line as a user does, in a home of its own, and times it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def evertune(home: Path, *arguments: str) -> dict[str, Any]:
    """Run `evertune ARGUMENTS` and return its JSON, if it prints any, with the wall time as `wall`.

    Raises:
        RuntimeError: it did not end with status 0.
    """
    environment = {
        **os.environ,
        "EVERTUNE_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "HF_HUB_OFFLINE": "1",
    }
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "evertune", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"evertune {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    printed = json.loads(done.stdout) if "--json" in arguments else {}
    return {**printed, "wall": wall} if isinstance(printed, dict) else {"wall": wall}


def machine() -> dict[str, Any]:
    """What the numbers were measured on, and at which revision of the code; names no host."""
    import platform

    import torch

    from evertune.registry.tracking import revision

    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())  # fmt: skip
    return {
        "cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(), "revision": revision(),
    }  # fmt: skip
