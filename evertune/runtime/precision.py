"""What this machine is good at, measured once and remembered."""

import time
from pathlib import Path
from typing import Any

from evertune.runtime.files import read_json, write_json


def resolve_precision(precision: str, memory: Path) -> str:
    """`bf16` or `fp32`; `auto` becomes whichever this machine multiplies matrices faster in.

    Args:
        memory: JSON file in which the measurement is remembered.
    """
    if precision != "auto":
        return precision
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    known: dict[str, Any] = read_json(memory) or {}
    name = f"torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()} threads {torch.get_num_threads()}"
    if name not in known:
        seconds = {kind: _seconds(getattr(torch, kind)) for kind in ("float32", "bfloat16")}
        known[name] = {
            "precision": "bf16" if seconds["bfloat16"] < 0.7 * seconds["float32"] else "fp32",
            "seconds": seconds,
        }
        write_json(memory, known)
    return str(known[name]["precision"])


def _seconds(dtype: Any) -> float:
    """Least time of five products of the shape that a small encoder's layers have."""
    import torch

    left, right = torch.ones(2048, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return min(times)
