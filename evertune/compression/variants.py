"""A variant of a bundle: the same model in fewer bytes, or for another engine."""

import shutil
from pathlib import Path
from typing import Any, Literal

from evertune import bundle, compressed
from evertune.errors import ConfigError
from evertune.home import read_json, write_json
from evertune.objectives import module

Method = Literal["int8", "prune", "onnx", "onnx-int8"]
METHODS: tuple[Method, ...] = ("int8", "prune", "onnx", "onnx-int8")
HERE = Path(__file__).parent.parent


def write(original: Path, folder: Path, method: Method, sparsity: float) -> str:
    """Write a variant of a bundle beside it, whole or not at all, and return its digest.

    Args:
        sparsity: share of the linear weights that `prune` takes away.
    Raises:
        ConfigError: the bundle is a variant already, or an adapter, or its model does not go with the method.
        OSError: the disk is full or not writable.
    """
    card = bundle.card(original)
    if "compression" in card:
        raise ConfigError(f"that version is a variant already ({card['compression']['method']}); compress the original")
    if "adapter" in card:
        raise ConfigError("that version is an adapter beside its base; train one with `merge: true` to compress it")
    objective = module(card["objective"])
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, scratch, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    try:
        _write_weights(objective, original / "model", scratch / "model", method, sparsity)
        for name in (*bundle.CODE, "compressed.py"):  # an older bundle's own code knows no variants
            shutil.copyfile(HERE / name, scratch / "code" / name)
        shutil.copyfile(str(objective.__file__), scratch / "code" / "objective.py")
        for name in objective.TRAVELS_WITH:
            shutil.copyfile(Path(str(objective.__file__)).with_name(f"{name}.py"), scratch / "code" / f"{name}.py")
        precision = card["precision"] if method == "prune" else "fp32"
        facts = {
            "method": method,
            "of": bundle.digest(original),
            **({"sparsity": sparsity} if method == "prune" else {}),
        }
        write_json(scratch / "evertune.json", {**card, "precision": precision, "compression": facts})
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return bundle.digest(folder)


def _write_weights(objective: Any, original: Path, place: Path, method: Method, sparsity: float) -> None:
    from safetensors.torch import save_file

    model = objective.load(original).eval()
    if method.startswith("onnx"):
        _export(model, place / compressed.GRAPH, method)
        return
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    linear = _linear(model)
    packed = (
        compressed.pack_int8(state, linear) if method == "int8" else compressed.pack_sparse(state, linear, sparsity)
    )
    save_file(packed, place / compressed.PACKED)


def _export(model: Any, path: Path, method: Method) -> None:
    try:
        compressed.export(model, path, int8=method == "onnx-int8")
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--method {method}: this model cannot be written as an ONNX graph: {str(error).splitlines()[0]}; "
            "try int8 or prune"
        ) from error


def _linear(model: Any) -> set[str]:
    import torch

    return {f"{name}.weight" for name, part in model.named_modules() if type(part) is torch.nn.Linear}


def size(folder: Path) -> int:
    """Bytes of a bundle's model."""
    return sum(file.stat().st_size for file in (folder / "model").rglob("*") if file.is_file())


def told(folder: Path) -> dict[str, Any] | None:
    """What was done to the model of a bundle; None where nothing was."""
    found: dict[str, Any] | None = read_json(folder / "evertune.json").get("compression")
    return found
