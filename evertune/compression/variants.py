"""Write a variant of a bundle: the same model in fewer bytes, or for another engine."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from evertune.errors import ConfigError
from evertune.objectives import Objective, load_objective
from evertune.runtime.files import read_json, write_json
from evertune.serving import bundle
from evertune.serving.portable import compressed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Method = Literal["int8", "prune", "onnx", "onnx-int8"]
METHODS: tuple[Method, ...] = ("int8", "prune", "onnx", "onnx-int8")
LEAST = 0.05  # smallest share of a model's parameters that a method must change to be worth a version


class Compression(TypedDict):
    """How the model of a bundle was compressed, on its card.

    Args:
        method: of the compression.
        of: digest of the original bundle.
        sparsity: share of the weights that `prune` removed.
    """

    method: Method
    of: str
    sparsity: NotRequired[float]


def write_variant(original: Path, folder: Path, method: Method, sparsity: float) -> str:
    """Write a variant of a bundle, whole or not at all, and return its digest.

    Args:
        original: the bundle.
        folder: of the variant.
        method: of the compression.
        sparsity: share of the weights of linear layers and convolutions that `prune` removes.
    Raises:
        ConfigError: the bundle is a variant already, or an adapter, or the method does not support its model.
        OSError: the disk is full or not writable.
    """
    card = bundle.read_card(original)
    if "compression" in card:
        raise ConfigError(f"that version is a variant already ({card['compression']['method']}); compress the original")
    if "adapter" in card:
        raise ConfigError("that version is an adapter without its base; train one with `merge: true` to compress it")
    objective = load_objective(card["objective"])
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, scratch, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    try:
        _write_weights(objective, original / "model", scratch / "model", method, sparsity)
        # The code of an older bundle does not support variants.
        bundle.write_code(scratch / "code", objective, (*bundle.CODE, "compressed.py"))
        precision = card["precision"] if method == "prune" else "fp32"
        facts: Compression = {"method": method, "of": bundle.compute_digest(original)}
        if method == "prune":
            facts["sparsity"] = sparsity
        write_json(scratch / "evertune.json", {**card, "precision": precision, "compression": facts})
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return bundle.compute_digest(folder)


def _write_weights(objective: Objective, original: Path, folder: Path, method: Method, sparsity: float) -> None:
    from safetensors.torch import save_file

    model = objective.load_model(original).eval()
    if method.startswith("onnx"):
        _export_onnx(model, folder / compressed.GRAPH, method)
        return
    state = _drop_tied_names(model.state_dict(), _list_saved_names(original))
    outputs = compressed.find_weights(model)
    share = sum(state[name].numel() for name in outputs) / sum(tensor.numel() for tensor in state.values())
    if share < LEAST:
        raise ConfigError(
            f"--method {method}: it changes linear layers and convolutions, which hold {share:.1%} of this model's "
            f"parameters (minimum: {LEAST:.0%}; a head that shares the embeddings' weights does not count), so the "
            "variant would be nearly as large; keep the original, or tune a model with a smaller vocabulary"
        )
    packed = (
        compressed.pack_int8(state, outputs) if method == "int8" else compressed.pack_sparse(state, outputs, sparsity)
    )
    save_file(packed, folder / compressed.PACKED)


def _drop_tied_names(state: Mapping[str, "torch.Tensor"], saved: Collection[str]) -> dict[str, "torch.Tensor"]:
    """Return the tensors by one name each: a tied tensor is packed once, by the name that it was saved with."""
    first_names: dict[object, str] = {}
    for name, tensor in state.items():
        storage_key = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        if storage_key not in first_names or (name in saved and first_names[storage_key] not in saved):
            first_names[storage_key] = name
    return {name: state[name].detach() for name in first_names.values()}


def _list_saved_names(folder: Path) -> set[str]:
    """Return the names of the tensors in a model's folder."""
    from safetensors import safe_open

    names: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            names.update(tensors.keys())
    return names


def _export_onnx(model: "PreTrainedModel", path: Path, method: Method) -> None:
    try:
        compressed.export_onnx(model, path, int8=method == "onnx-int8")
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--method {method}: this model cannot be exported to ONNX: {str(error).splitlines()[0]}; try int8 or prune"
        ) from error


def measure_size(folder: Path) -> int:
    """Return the bytes of a bundle's model."""
    return sum(file.stat().st_size for file in (folder / "model").rglob("*") if file.is_file())


def read_compression(folder: Path) -> Compression | None:
    """Return how the model of a bundle was compressed; None for an original."""
    compression: Compression | None = read_json(folder / "evertune.json").get("compression")
    return compression
