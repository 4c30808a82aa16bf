"""How the weights of two bundles differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evertune.records import file_digest
from evertune.serving.portable import compressed

WEIGHTS = (".safetensors", ".onnx")  # files of a bundle's model that hold weights
TINY = 1e-45  # what is told of a difference that has none, such as of 0.0 and -0.0


def compare_weights(first: Path, second: Path) -> float | None:
    """The largest difference of any weight of two bundles, 0.0 only where every bit is the same.

    None where weights cannot be compared: the models have other shapes, or are graphs.
    """
    files = [
        sorted(path for path in (folder / "model").iterdir() if path.suffix in WEIGHTS) for folder in (first, second)
    ]
    digests = [[(path.name, file_digest(path)) for path in paths] for paths in files]
    if digests[0] == digests[1]:
        return 0.0
    first_weights, second_weights = map(_load_weights, files)
    if not first_weights or {name: tensor.shape for name, tensor in first_weights.items()} != {
        name: tensor.shape for name, tensor in second_weights.items()
    }:
        return None
    return (
        max(float((first_weights[name].float() - second_weights[name].float()).abs().max()) for name in first_weights)
        or TINY
    )


def _load_weights(files: Sequence[Path]) -> dict[str, Any]:
    """Every tensor of a model, whichever of its files has it; of a packed one those that stand behind."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for path in files:
        if path.suffix == ".safetensors":
            tensors |= compressed.unpack_weights(load_file(path)) if path.name == compressed.PACKED else load_file(path)
    return tensors
