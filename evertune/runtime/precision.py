"""The precision that this machine computes fastest in, measured once and stored."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.runtime.files import read_json, write_json

if TYPE_CHECKING:
    import torch


def resolve_precision(precision: str, memory: Path) -> str:
    """Return `bf16` or `fp32`; `auto` becomes the one in which this machine multiplies matrices faster.

    Args:
        precision: `auto`, `bf16` or `fp32`.
        memory: JSON file that stores the measurement.
    """
    if precision != "auto":
        return precision
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    measured: dict[str, Any] = read_json(memory) or {}
    name = f"torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()} threads {torch.get_num_threads()}"
    if name not in measured:
        seconds = {kind: _measure_seconds(getattr(torch, kind)) for kind in ("float32", "bfloat16")}
        measured[name] = {
            "precision": "bf16" if seconds["bfloat16"] < 0.7 * seconds["float32"] else "fp32",
            "seconds": seconds,
        }
        write_json(memory, measured)
    return str(measured[name]["precision"])


def _measure_seconds(dtype: "torch.dtype") -> float:
    """Return the shortest time of five matrix products with the shapes of a small encoder's layer."""
    import torch

    left = torch.ones(2048, 384, dtype=dtype)
    right = torch.ones(384, 1536, dtype=dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return min(times)
