"""How the weights of two bundles differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evertune.records import file_digest
from evertune.serving.portable import compressed

WEIGHTS = (".safetensors", ".onnx")  # files of a bundle's model that hold weights
TINY = 1e-45  # what is told of a difference that has none, such as of 0.0 and -0.0


def difference(one: Path, other: Path) -> float | None:
    """The largest difference of any weight of two bundles, 0.0 only where every bit is the same.

    None where weights cannot be compared: the models have other shapes, or are graphs.
    """
    files = [sorted(path for path in (folder / "model").iterdir() if path.suffix in WEIGHTS) for folder in (one, other)]
    digests = [[(path.name, file_digest(path)) for path in found] for found in files]
    if digests[0] == digests[1]:
        return 0.0
    ours, theirs = map(_weights, files)
    if not ours or {name: one.shape for name, one in ours.items()} != {name: one.shape for name, one in theirs.items()}:
        return None
    return max(float((ours[name].float() - theirs[name].float()).abs().max()) for name in ours) or TINY


def _weights(files: Sequence[Path]) -> dict[str, Any]:
    """Every tensor of a model, whichever of its files has it; of a packed one those that stand behind."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in files:
        if path.suffix == ".safetensors":
            found |= compressed.unpacked(load_file(path)) if path.name == compressed.PACKED else load_file(path)
    return found
